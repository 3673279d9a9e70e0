"""The state of the mirror that `up` shows: read in the background each second, as a line or as a live view."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Self

from rich.table import Table
from rich.text import Text

from service.alerts.problems import OK, STARTING, LocalUp
from service.broker.counters import EVENTS
from service.plain_text import escape_controls
from service.status import StatusReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import RenderableType

    from service.config import Settings
    from service.status import MirrorState

INTERVAL_SECONDS = 1.0
RATE_SECONDS = 10.0
WIDEST_BAR = 40
LABEL_WIDTH = 22


@dataclass(frozen=True, slots=True)
class Reading:
    """The mirror at one moment.

    Attributes:
        verdict: `starting`, or the first line of `status`.
        applied: events that were applied since the start; None while Redis is unavailable.
        rate: events applied in a second, over the last `RATE_SECONDS`; None while Redis is unavailable.
        waiting: events that wait; None while Redis is unavailable.
        lag: age of the oldest of them, in seconds; 0 where none waits, None while Redis is unavailable.
        models: how many in each status, the most frequent first; None while Postgres is unavailable.
        pull_age: seconds since the end of the last complete pull; None before the first.
        event_age: seconds since the newest event was accepted; None before the first.
    """

    verdict: str = STARTING
    applied: int | None = None
    rate: float | None = None
    waiting: int | None = None
    lag: float | None = None
    models: Mapping[str, int] | None = None
    pull_age: float | None = None
    event_age: float | None = None


NOT_READ = Reading()


class Gauge(threading.Thread):
    """Reads the mirror each second; a server that hangs holds up this thread, and nothing else.

    Args:
        settings: say where Postgres and Redis are.
        local: the system that it is a part of.
    """

    def __init__(self, settings: Settings, local: Callable[[], LocalUp]) -> None:
        super().__init__(name="gauge", daemon=True)
        self.latest = NOT_READ
        self._status = StatusReader(settings, local)
        self._before: int | None = None
        self._applied: deque[tuple[float, int]] = deque()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        # It may wait for a server that has ended by now; it ends with this process.
        self._ended.set()

    def run(self) -> None:
        """Read until the end of the block."""
        while not self._ended.is_set():
            self.latest = self.read()
            self._ended.wait(INTERVAL_SECONDS)
        self._status.close()

    def read(self) -> Reading:
        """The mirror now."""
        state = self._status.read()
        applied = self._read_applied(state)
        figures = state.figures
        now = state.facts.now
        return Reading(
            verdict=state.verdict,
            applied=applied,
            rate=self._rate(applied),
            waiting=state.events_waiting,
            lag=state.redis and (state.oldest_waiting_seconds or 0.0),
            models=figures and dict(sorted(figures.models.items(), key=lambda item: (-item[1], item[0]))),
            pull_age=figures.pull_age_seconds if figures else None,
            event_age=(now - figures.last_event_at).total_seconds()
            if figures and now and figures.last_event_at
            else None,
        )

    def _read_applied(self, state: MirrorState) -> int | None:
        if state.redis is None:
            return None
        processed = round(sum(number for labels, number in state.redis.counts.items() if labels[0] == EVENTS))
        if self._before is None:
            self._before = processed
        # Counts begin anew where Redis lost them.
        return max(0, processed - self._before)

    def _rate(self, applied: int | None) -> float | None:
        if applied is None:
            return None
        now = monotonic()
        self._applied.append((now, applied))
        while now - self._applied[0][0] > RATE_SECONDS:
            self._applied.popleft()
        (then, before), elapsed = self._applied[0], now - self._applied[0][0]
        return (applied - before) / elapsed if elapsed and then else 0.0


def describe(reading: Reading, processes: Mapping[str, str]) -> str:
    """A reading as one line.

    Args:
        reading: the mirror.
        processes: the state of each process and server, by its name.
    """
    counted = "- models"
    if reading.models is not None:
        models = ", ".join(f"{status} {count}" for status, count in reading.models.items())
        counted = f"{sum(reading.models.values())} models{': ' if models else ''}{models}"
    odd = ", ".join(f"{name} {state}" for name, state in processes.items() if state != "runs")
    return " | ".join(
        (
            f"{datetime.now(UTC).astimezone():%H:%M:%S}  {_verdict(reading, processes)}",
            *(["not read yet"] if reading == NOT_READ else [_events(reading), counted, _freshness(reading)]),
            odd or f"{len(processes)} processes run",
        )
    )


def live_view(reading: Reading, processes: Mapping[str, str], width: int) -> RenderableType:
    """A reading for a terminal, in some lines.

    Args:
        reading: the mirror.
        processes: the state of each process and server, by its name.
        width: columns of the terminal.
    """
    verdict = _verdict(reading, processes)
    style = {OK: "bold green", STARTING: "bold yellow"}.get(verdict, "bold red")
    table = Table.grid(padding=(0, 2))
    table.add_column(width=LABEL_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("mirror", Text(escape_controls(verdict), style))
    states = Text("  ").join(
        Text(f"{name} {state}", "green" if state == "runs" else "red") for name, state in processes.items()
    )
    table.add_row("processes", states)
    table.add_row("events", "not read yet" if reading == NOT_READ else _events(reading))
    table.add_row("freshness", "not read yet" if reading == NOT_READ else _freshness(reading))
    models = reading.models or {}
    most = max(models.values(), default=0)
    room = min(WIDEST_BAR, max(1, width - LABEL_WIDTH - 14))
    for status, count in models.items():
        bar = "█" * max(1, round(room * count / most)) if count else ""
        table.add_row(
            f"  {escape_controls(status)}",
            Text.assemble(f"{count:>8}  ", (bar, "red" if status == "failed" else "cyan")),
        )
    return table


def _verdict(reading: Reading, processes: Mapping[str, str]) -> str:
    """The verdict; the end of a process that `up` started is a problem before its heartbeats are missed."""
    ended = ", ".join(name for name, state in processes.items() if state != "runs")
    return f"PROBLEM: {ended} ended" if ended and reading.verdict in {OK, STARTING} else reading.verdict


def _events(reading: Reading) -> str:
    applied = "-" if reading.applied is None else f"{reading.applied}"
    rate = "-" if reading.rate is None else f"{reading.rate:.1f}"
    waiting = "-" if reading.waiting is None else f"{reading.waiting}"
    lag = "-" if reading.lag is None else f"{reading.lag:.1f} s"
    return f"{applied} events applied, {rate} a second, {waiting} waiting, lag {lag}"


def _freshness(reading: Reading) -> str:
    if reading.models is None:
        return "last pull -, last event -"
    pulled = "not pulled yet" if reading.pull_age is None else f"pulled {reading.pull_age:.0f} s ago"
    return f"{pulled}, {'no event yet' if reading.event_age is None else f'last event {reading.event_age:.0f} s ago'}"
