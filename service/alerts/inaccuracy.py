"""How wrong the mirror is, and when that alerts. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# An alert by one window alone would be late (a long one), or open for each small burst (a short one).
# Source: Google, "The Site Reliability Workbook" (2018), chapter 5, multiwindow alerts.
LONG_WINDOW, SHORT_WINDOW = "24h", "1h"
# An hour with less than three full pulls may never have the two that a lower bound needs.
MAX_HOURLY_INTERVAL = timedelta(minutes=20)
LONG_WINDOW_OF_RARE_PULLS, SHORT_WINDOW_OF_RARE_PULLS = "28d", "24h"


class MeasuredError(NamedTuple):
    """The error that was measured in a period, of the fields of the list.

    Attributes:
        period: such as `24h`.
        lower_95: lower 95 % bound of the share of wrong rows; None where nothing was compared.
        slo_target: highest acceptable share.
        unexplained: differences that are our own fault.
    """

    period: str
    lower_95: float | None
    slo_target: float
    unexplained: int


def inaccuracy(measured: Sequence[MeasuredError], pull_interval: timedelta) -> dict[str, Any] | None:
    """The details of an alert about the mirror's own error; None where none holds."""
    by_period = {one.period: one for one in measured}
    if (day := by_period.get(LONG_WINDOW)) and day.unexplained:
        return day._asdict()
    windows = (LONG_WINDOW, SHORT_WINDOW)
    if pull_interval > MAX_HOURLY_INTERVAL:
        windows = (LONG_WINDOW_OF_RARE_PULLS, SHORT_WINDOW_OF_RARE_PULLS)
    long, short = (by_period.get(window) for window in windows)
    return long._asdict() if long and short and _exceeds(long) and _exceeds(short) else None


def _exceeds(measured: MeasuredError) -> bool:
    return measured.lower_95 is not None and measured.lower_95 > measured.slo_target
