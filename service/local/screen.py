"""Where `up` prints: lines that stay, and below them, on a terminal, a view that is drawn anew each second."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from service.local.gauge import describe, live_view
from service.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from service.local.gauge import Reading


class Screen:
    """A terminal with a live view, or anything else with a line for each moment.

    Args:
        out: where it is printed.
    """

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

    def show(self, reading: Reading, processes: Mapping[str, str]) -> None:
        """Show the mirror and its processes as they are now."""
        if not self._out.isatty():
            self.say(describe(reading, processes))
            return
        if self._live is None:
            self._live = self._open()
        self._live.update(live_view(reading, processes, self._live.console.width), refresh=True)

    def _open(self) -> Live:
        self._out.write("\n")
        live = Live(console=Console(file=self._out, highlight=False, emoji=False, markup=False), auto_refresh=False)
        live.start()
        return live
