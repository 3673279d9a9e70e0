"""`event_lags`: percentiles of how long events took from the vendor to the endpoint, and from there to their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

# More events in an hour than this are not read: their cost would grow with the load.
MOST_EVENTS = 50_000


_COLUMNS = [f"{lag}_{percentile}" for lag in ("event_lag", "delivery_lag") for percentile in ("p50", "p95", "p99")]
_NAMES = ", ".join(_COLUMNS)
_COMPUTE = f"""
    INSERT INTO headshotpro.event_lags (id, events, {_NAMES}, computed_at)
    SELECT 1, events, ours[1], ours[2], ours[3], vendors[1], vendors[2], vendors[3], now() FROM (
        SELECT count(*) AS events,
            percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY our_seconds) AS ours,
            percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY vendors_seconds) AS vendors
        FROM (
            SELECT extract(epoch FROM processed_at - received_at)::float8 AS our_seconds,
                extract(epoch FROM received_at - created_at)::float8 AS vendors_seconds
            FROM headshotpro.webhook_events
            WHERE received_at > now() - interval '1 hour' ORDER BY received_at DESC LIMIT :most
        ) AS newest
    ) AS counted
    ON CONFLICT (id) DO UPDATE SET (events, {_NAMES}, computed_at)
        = ROW (excluded.events, {", ".join(f"excluded.{name}" for name in _COLUMNS)}, excluded.computed_at)
"""  # noqa: S608 - our own names


def compute(connection: Connection) -> None:
    """Compute the lags of the last hour's newest events for the view `mirror_status`.

    An event that was merged again counts by the last time: `headshotpro_event_to_row_seconds` counts the first.
    """
    queries.run(connection, _COMPUTE, most=MOST_EVENTS)


def read(connection: Connection) -> Mapping[str, float | None]:
    """The lags as they were last computed, in seconds; null where there was no event, empty before the first time.

    `event_lag_…` is the time from an event's receipt to its row, `delivery_lag_…` that from the vendor to its receipt,
    each with `p50`, `p95` and `p99`. A lag is below 0 where the vendor's clock is ahead of the local one.
    """
    return queries.row(connection, f"SELECT {_NAMES} FROM headshotpro.event_lags") or {}  # noqa: S608 - our own names
