"""How benches summarize and print: sides that take turns, ratios round by round, tables, goals, the machine."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import service


class Spread(NamedTuple):
    """The figures of several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


class Times(NamedTuple):
    """Milliseconds of many calls."""

    median: float
    p95: float
    p99: float
    worst: float
    calls: int

    def __str__(self) -> str:
        return f"p50 {short(self.median)} ms, p95 {short(self.p95)} ms, p99 {short(self.p99)} ms of {self.calls}"


def times(seconds: Sequence[float]) -> Times:
    ordered = sorted(1000 * one for one in seconds)
    at = (ordered[int(len(ordered) * part)] for part in (0.5, 0.95, 0.99))
    return Times(*at, ordered[-1], len(ordered))


def short(value: float) -> str:
    """Three significant digits, or all of a larger whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Run each side once a round, in turned order; the rounds to warm up are left out."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warm_up, rounds):
        for name in sides if number % 2 else reversed(list(sides)):
            taken[name].append(sides[name]())
    return {name: figures[warm_up:] for name, figures in taken.items()}


def ratio(taken: Mapping[str, Sequence[float]], over: str, under: str) -> Spread:
    """The ratio of two sides, round by round."""
    return spread([one / other for one, other in zip(taken[over], taken[under], strict=True)])


class Report:
    """One bench's part of `RESULTS.md`."""

    def __init__(self, title: str, command: str) -> None:
        self._parts = [f"## {title}", f"`{command}`"]
        self._goals: list[Sequence[object]] = []

    def table(self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        head, *lines = ["| " + " | ".join(map(str, row)) + " |" for row in (columns, *rows)]
        self._parts.append("\n".join([*([heading, ""] if heading else []), head, "|---" * len(columns) + "|", *lines]))

    def note(self, sentence: str) -> None:
        self._parts.append(sentence)

    def goal(self, figure: str, seen: Spread | float, low: float | None = None, high: float | None = None) -> None:
        """A figure that has to be at least or at most this; of rounds, the median counts."""
        median, shown = (seen.median, str(seen)) if isinstance(seen, Spread) else (seen, f"{seen:.3g}")
        reached = (low is None or median >= low) and (high is None or median <= high)
        wanted = [f"at {name} {one:g}" for name, one in (("least", low), ("most", high)) if one is not None]
        self._goals.append((figure, shown, ", ".join(wanted), "yes" if reached else "**no**"))

    def __str__(self) -> str:
        if self._goals:
            self.table("", ("goal", "seen", "wanted", "reached"), self._goals)
            self._goals = []
        return "\n\n".join(self._parts) + "\n"


def machine() -> str:
    """The machine in one line: figures of two machines cannot be compared."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, headshot-mirror {service.__version__}, {os.cpu_count()} × "
        f"{models[0] if models else platform.machine()}, {memory} GiB, {platform.platform(terse=True)}, "
        f"Python {platform.python_version()}; load {os.getloadavg()[0]:.1f} at the end"
    )
