"""The figures of the view `accuracy`: how wrong the mirror was, for how long, and how surely."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service import model_fields
from service.mirror.accuracy import NEW_FOR, Stratum
from service.mirror.codec import LIST_COLUMNS
from service.mirror.error_bounds import Bounds, Counts, burst_size, of_pulls, of_samples
from service.storage import accuracy
from service.storage import accuracy_figures as storage

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.storage.accuracy_figures import Findings

# The columns of which the view has figures.
COLUMNS = {"list": LIST_COLUMNS, "detail": model_fields.columns_in(model_fields.DETAIL)}
PERIODS = {"1h": "1 hour", "24h": "24 hours", "28d": "28 days"}
LONGEST_PERIOD = "28d"
# A row that was wrong for less was on its way: a webhook takes a moment.
TOLERATED_SECONDS = 10.0


def compute(connection: Connection, target: float) -> None:
    """Compute the figures of every period and write them for the view.

    `target` is the highest acceptable share of wrong rows, in (0, 1].
    """
    now = datetime.now(UTC)
    sizes = accuracy.stratum_sizes(connection, now - NEW_FOR)
    found = {
        period: storage.findings(connection, interval, COLUMNS, TOLERATED_SECONDS)
        for period, interval in PERIODS.items()
    }
    burst = burst_size([Counts(*pull) for pull in found[LONGEST_PERIOD]["list"].pulls])
    rows = [
        {"period": period, "fields": fields, **figures(by_fields[fields], sizes, fields, target, burst)}
        for fields in COLUMNS
        for period, by_fields in found.items()
    ]
    storage.write_figures(connection, rows)


def figures(found: Findings, sizes: dict[str, int], fields: str, target: float, burst: float = 1.0) -> dict[str, Any]:
    """The figures of one period, and of the list's fields or the details. Pure.

    Pulls say most about the fields of the list, because they read every row; without one in the period, and for
    details, the samples decide. The rate is that of live rows: a sampled tombstone shows in the differences alone.
    `sizes` are the rows of each stratum of the mirror, `target` is the highest acceptable share of wrong rows, and
    `burst` is how many rows are wrong for one reason, by the pulls of the longest period.
    """
    by_pulls = fields == "list" and bool(found.pulls)
    if by_pulls:
        counts = [Counts(*pull) for pull in found.pulls]
        bounds = of_pulls(counts, burst)
        accidents = sum(pull.wrong > 0 for pull in counts)
    else:
        counts = [
            Counts(*(sample[:2] if fields == "list" else sample[2:]), weight=float(sizes.get(stratum, 0)))
            for stratum, sample in found.samples.items()
            if stratum != Stratum.TOMBSTONE
        ]
        bounds = of_samples(counts)
        accidents = sum(stratum.wrong for stratum in counts)
    if bounds and accidents < 2:
        # One accident, however many rows it hit, may be the last. In a new mirror all periods hold the same one.
        bounds = bounds._replace(lower=0.0)
    p50, p95, p99, longest = found.staleness
    return {
        "compared": sum(unit.compared for unit in counts),
        "wrong": sum(unit.wrong for unit in counts),
        "rate": bounds and bounds.rate,
        "lower_95": bounds and bounds.lower,
        "upper_95": bounds and bounds.upper,
        "bound_method": bounds and bounds.method,
        "stale_p50": p50,
        "stale_p95": p95,
        "stale_p99": p99,
        "stale_max": longest,
        "censored_share": found.censored_share,
        "late_webhooks": found.late,
        "lost_webhooks": found.lost,
        "unexplained": found.unexplained,
        "last_check_at": found.last_check_at,
        "slo_target": target,
        "slo_met": _meets(bounds, target),
        "error_budget_left": None if bounds is None else 1 - bounds.rate / target,
    }


def _meets(bounds: Bounds | None, target: float) -> bool | None:
    """Whether a rate is surely within its target, or surely beyond it; None: there are too few checks to say."""
    if bounds is None:
        return None
    if bounds.upper <= target:
        return True
    return False if bounds.lower > target else None
