"""What a bench found, as a table to read and as a part of `RESULTS.md`."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Spread


@dataclass
class Report:
    """One bench's part.

    Attributes:
        title: of it.
        command: what runs it alone.
        tables: each a heading and its lines, ready to print.
        goals: what was to be reached, each with what was seen, as lines of a table.
    """

    title: str
    command: str
    tables: list[str] = field(default_factory=list)
    goals: list[tuple[str, str, str, str]] = field(default_factory=list)

    def table(self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in (columns, *rows)]
        lines.insert(1, "|---" * len(columns) + "|")
        self.tables.append("\n".join([heading, "", *lines]))

    def note(self, words: str) -> None:
        """Add a sentence: what is missing, what a figure means."""
        self.tables.append(words)

    def at_least(self, what: str, seen: Spread | float, wanted: float, unit: str = "") -> None:
        """A figure that was to be so great; of rounds, the median counts."""
        self._goal(what, seen, f"at least {wanted:g}{unit}", _median(seen) >= wanted)

    def at_most(self, what: str, seen: Spread | float, wanted: float, unit: str = "") -> None:
        """A figure that was to be no greater; of rounds, the median counts."""
        self._goal(what, seen, f"at most {wanted:g}{unit}", _median(seen) <= wanted)

    def _goal(self, what: str, seen: Spread | float, wanted: str, reached: bool) -> None:
        shown = f"{seen:.3g}" if isinstance(seen, int | float) else str(seen)
        self.goals.append((what, shown, wanted, "yes" if reached else "**no**"))

    def __str__(self) -> str:
        parts = [f"## {self.title}", f"`{self.command}`", *self.tables]
        if self.goals:
            lines = ["| " + " | ".join(goal) + " |" for goal in self.goals]
            parts.append("\n".join(["| goal | seen | wanted | reached |", "|---|---|---|---|", *lines]))
        return "\n\n".join(parts) + "\n"


def _median(seen: Spread | float) -> float:
    return seen if isinstance(seen, int | float) else seen.median


def machine() -> str:
    """The machine in a line: what figures of another one cannot be compared with."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory = next((int(line.split()[1]) // 2**20 for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, headshot-mirror {service.__version__}, {os.cpu_count()} × {model}, "
        f"{memory} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def ticks() -> tuple[int, int]:
    """How long all processors have been there, and how long they were others': of the same unit, to be compared."""
    counted = [int(number) for line in _lines("/proc/stat")[:1] for number in line.split()[1:9]]
    return sum(counted), counted[7] if counted else 0


def stolen(since: tuple[int, int]) -> str:
    """The processor time that other tenants of the machine took since then, where the kernel reports it."""
    before, now = since, ticks()
    share = (now[1] - before[1]) / max(1, now[0] - before[0])
    return f"other tenants of the machine took {share:.1%} of its processors' time"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
