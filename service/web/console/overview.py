"""The page *Overview*: can the mirror be trusted now?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from service.alerts.problems import STARTING
from service.status import StatusReader
from service.storage import status_report
from service.web.console.limits import Cached, Refreshed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Blueprint

    from service.web.console.console import Console

# Many open consoles cost the servers as much as one.
STATE_SECONDS = 2.0
COUNT_SECONDS = 15.0
EVENT_MINUTES = 60
# Counting a million models takes a tenth of a second; a server under load takes longer.
COUNT_TIMEOUT_SECONDS = 30.0


class Overview:
    """Reads what the page shows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reader = StatusReader(console.settings)
        self.state = Cached(lambda: self._reader.read(figures=False), STATE_SECONDS)
        self.counted = Refreshed(self._count, self._newest_sample, COUNT_SECONDS)
        self.charts = Refreshed(self._charts, lambda: None, COUNT_SECONDS)
        self._drawn: tuple[dict[str, Any], str] | None = None

    def page(self) -> str:
        """The page."""
        state = self.state.get()
        figures: dict[str, Any] | None = None
        if state.processes is not None:
            with self._console.reading() as connection:
                figures = {
                    "fresh": status_report.snapshot(connection, counts=False),
                    "alerts": status_report.open_alerts(connection),
                    "pulls": status_report.running_pulls(connection),
                    "accuracy": status_report.accuracy(connection),
                }
        waiting = state.events_waiting
        return self._console.render(
            "overview.html",
            state=state,
            starting=state.verdict == STARTING,
            problems=state.problems,
            figures=figures,
            counted=self.counted.get() if figures else None,
            charts=self._draw() if figures else "",
            events_waiting=waiting if waiting is None or figures is None else waiting + figures["fresh"].spooled_events,
        )

    def _draw(self) -> Markup:
        """The charts as a part of the page: half of the work of a page, so it is done once for each reading."""
        charts = self.charts.get()
        if self._drawn is None or self._drawn[0] is not charts:
            self._drawn = charts, self._console.render("overview_charts.html", charts=charts)
        return Markup(self._drawn[1])  # noqa: S704 - a template of ours made it

    def _charts(self) -> dict[str, Any]:
        """The charts as JSON holds them: a list of times, then a list of values for each name."""
        with self._console.reading() as connection:
            day = status_report.sample_series(connection, hours=24, step_seconds=600)
            month = status_report.sample_series(connection, hours=24 * 30, step_seconds=4 * 3600)
            events = status_report.events_by_minute(connection, EVENT_MINUTES)
        series = [
            {"name": "events", "values": [row["events"] for row in events]},
            {"name": "seconds to the row (95 %)", "values": [row["lag"] for row in events], "axis": "s"},
        ]
        times = [row["at"].timestamp() for row in events]
        return {"day": _by_status(day), "month": _by_status(month), "events": {"times": times, "series": series}}

    def _count(self) -> dict[str, Any]:
        """How many models are in each status, and when they were counted: as a sample has it."""
        with self._console.reading(COUNT_TIMEOUT_SECONDS) as connection:
            return {"at": datetime.now(UTC), "models": status_report.count_now(connection)}

    def _newest_sample(self) -> dict[str, Any] | None:
        with self._console.reading() as connection:
            return status_report.newest_sample(connection)


def _by_status(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Samples as a chart wants them; a status that a sample does not name had no model."""
    statuses = sorted({status for row in rows for status in row["models"]})
    series = [{"name": status, "values": [row["models"].get(status, 0) for row in rows]} for status in statuses]
    return {"times": [row["at"].timestamp() for row in rows], "series": series}


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""
    pages.get("/", endpoint="overview")(Overview(console).page)
