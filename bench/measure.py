"""How benches measure: sides in turn, and ratios round by round, so that the moods of the machine cancel."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Rounds = Mapping[str, Sequence[float]]


class Spread(NamedTuple):
    """What several rounds gave.

    Attributes:
        median: of them.
        low: the least.
        high: the greatest.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a round."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)} to {_short(self.high)})"


class Times(NamedTuple):
    """Milliseconds that many calls took."""

    median: float
    p95: float
    p99: float
    worst: float
    calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """The summary of some measurements in seconds."""
        ordered = sorted(1000 * one for one in seconds)
        return cls(
            statistics.median(ordered),
            ordered[int(len(ordered) * 0.95)],
            ordered[int(len(ordered) * 0.99)],
            ordered[-1],
            len(ordered),
        )

    def __str__(self) -> str:
        return f"p50 {_short(self.median)} ms, p95 {_short(self.p95)} ms, p99 {_short(self.p99)} ms of {self.calls}"


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Run every side once a round, the order turned from round to round.

    Args:
        sides: name to what measures once: a rate or seconds.
        rounds: that count.
        warm_up: rounds before them that do not.

    Returns:
        Name to a value for each round.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(-warm_up, rounds):
        for name in names if number % 2 else reversed(names):
            value = sides[name]()
            if number >= 0:
                taken[name].append(value)
    return taken


def ratio(taken: Rounds, over: str, under: str) -> Spread:
    """The ratio of two sides, taken round by round."""
    return Spread.of([one / other for one, other in zip(taken[over], taken[under], strict=True)])


def _short(value: float) -> str:
    """Three digits that matter, or all of the whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
