"""Where `up` prints: lines that stay, and the state of the mirror: a view below them on a terminal, else a line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.alerts.problems import OK, STARTING
from service.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from service.status import MirrorState

STYLES = {OK: "bold green", STARTING: "bold yellow"}


class Screen:
    """A terminal with a live view, or anything else with a line for each moment."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Leave the last view on the terminal; lines that follow are printed below it."""
        live, self._live = self._live, None
        if live:
            live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        line = escape_controls(line)
        if self._live:
            # Without wrapping, so that a command can be pasted whole.
            self._live.console.print(Text(line), soft_wrap=True)
            return
        self._out.write(f"{line}\n")
        self._out.flush()

    def row(self, name: str, text: str) -> None:
        """Print a line of the table of what runs where."""
        self.say(f"  {name:<10} {text}")

    def show(self, state: MirrorState | None, ended: Mapping[str, bool]) -> None:
        """Show the mirror as it is now, None while it was not read yet, and whether each process has ended."""
        facts = describe(state, ended)
        if not self._out.isatty():
            self.say(f"{datetime.now(UTC).astimezone():%H:%M:%S}  {' | '.join(facts.values())}")
            return
        if self._live is None:
            self._out.write("\n")
            console = Console(file=self._out, highlight=False, emoji=False, markup=False)
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()
        table = Table.grid(padding=(0, 2))
        for name, fact in facts.items():
            style = STYLES.get(fact, "bold red") if name == "mirror" else ""
            table.add_row(name, Text(escape_controls(fact), style))
        self._live.update(table, refresh=True)


def describe(state: MirrorState | None, ended: Mapping[str, bool]) -> dict[str, str]:
    """A moment of the mirror, None while it was not read yet, and of its processes: what is known of each matter."""
    processes = ", ".join(f"{name} ended" for name, has_ended in ended.items() if has_ended)
    running = processes or f"{len(ended)} processes run"
    if state is None:
        return {"mirror": STARTING, "events": "not read yet", "processes": running}
    figures, now = state.figures, state.facts.now
    waiting = "unknown" if state.events_waiting is None else state.events_waiting
    ranked = sorted(figures.models.items(), key=lambda item: (-item[1], item[0])) if figures else []
    counted = ", ".join(f"{name} {number}" for name, number in ranked)
    pulled = figures.pull_age_seconds if figures else None
    event_at = figures.last_event_at if figures else None
    ages = (
        "not pulled yet" if pulled is None else f"pulled {pulled:.0f} s ago",
        f"last event {(now - event_at).total_seconds():.0f} s ago" if now and event_at else "no event yet",
    )
    return {
        "mirror": state.verdict,
        "events": f"{waiting} events waiting, lag {state.oldest_waiting_seconds or 0.0:.1f} s",
        "models": f"{sum(dict(ranked).values())} models{': ' if counted else ''}{counted}",
        "freshness": ", ".join(ages),
        "processes": running,
    }
