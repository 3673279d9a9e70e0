"""How wrong the mirror is, and when that alerts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# An alert by one window alone would be late (a long one), or open for each small burst (a short one).
# Source: Google, "The Site Reliability Workbook" (2018), chapter 5, multiwindow alerts.
LONG_WINDOW, SHORT_WINDOW = "24h", "1h"


class MeasuredError(NamedTuple):
    """The error that was measured in a period, of the fields of the list.

    Attributes:
        period: such as `24h`.
        lower: lower 95 % bound of the share of wrong rows; None where nothing was compared.
        target: highest acceptable share.
        unexplained: differences that are our own fault.
    """

    period: str
    lower: float | None
    target: float
    unexplained: int


def inaccuracy(measured: Sequence[MeasuredError]) -> dict[str, Any] | None:
    """The details of an alert about the mirror's own error; None where none holds."""
    by_period = {one.period: one for one in measured}
    long, short = by_period.get(LONG_WINDOW), by_period.get(SHORT_WINDOW)
    if long is None:
        return None
    if long.unexplained or (_exceeds(long) and short is not None and _exceeds(short)):
        return {"lower_95": long.lower, "slo_target": long.target, "unexplained": long.unexplained}
    return None


def _exceeds(measured: MeasuredError) -> bool:
    return measured.lower is not None and measured.lower > measured.target
