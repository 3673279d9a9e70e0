"""The page *Accuracy*: how wrong the mirror is, how long, and the newest checks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.storage import accuracy_figures as storage
from service.storage import pulls
from service.storage.accuracy import list_checks
from service.web.console import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Blueprint

    from service.web.console.console import Console

PAGE_SIZE = 50
METHODS = ("census", "sample", "sweep")
VERDICTS = ("agreed", "in_flight", "late", "lost", "unannounced", "foreign_write", "unexplained", "undecided")
_PERIODS = {"1h": 0, "24h": 1, "28d": 2}


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""

    def accuracy() -> str:
        method, verdict = arguments.choice("method", METHODS), arguments.choice("verdict", VERDICTS)
        before = arguments.number("before")
        with console.reading() as connection:
            figures = storage.read_figures(connection)
            found = list_checks(connection, method, verdict, before, PAGE_SIZE + 1)
            steps = pulls.found_by_pulls(connection)
        return console.render(
            "accuracy.html",
            out_of_date=any(datetime.now(UTC) - row["computed_at"] > storage.FRESH_FOR for row in figures),
            figures=sorted(figures, key=lambda row: (row["fields"] != "list", -_PERIODS.get(row["period"], -1))),
            chart=_chart(steps),
            checks=found[:PAGE_SIZE],
            older=found[PAGE_SIZE - 1]["id"] if len(found) > PAGE_SIZE else None,
            methods=METHODS,
            verdicts=VERDICTS,
        )

    pages.get("/accuracy")(accuracy)


def _chart(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows that differed, of a million that full pulls compared; late and lost webhooks."""
    shares = [1_000_000 * step["differed"] / step["compared"] for step in steps]
    return {
        "times": [int(step["at"].timestamp()) for step in steps],
        "series": [
            {"name": "differed, of a million rows", "values": shares},
            {"name": "late webhooks", "values": [step["late"] for step in steps], "axis": "own"},
            {"name": "lost webhooks", "values": [step["lost"] for step in steps], "axis": "own"},
        ],
    }
