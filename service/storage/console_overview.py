"""Queries of the console's overview, which take milliseconds for any number of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Freshness(NamedTuple):
    """How fresh the mirror is, and what waits; see `status_report.MirrorSnapshot` for each figure."""

    last_event_at: Any
    last_complete_pull_at: Any
    pull_age_seconds: float | None
    spooled_events: int
    missed_webhooks: int
    open_refetches: int
    open_alerts: int


def freshness(connection: Connection) -> Freshness:
    """The figures that need no count of models."""
    return Freshness(**queries.rows(connection, _FRESHNESS)[0])


# Columns of the view that are not named here cost nothing: the count of models is one of them.
_FRESHNESS = """
    SELECT newest_event_at AS last_event_at, last_complete_pull_at, pull_age_seconds, spooled_events, open_alerts,
        (SELECT coalesce(sum(missed_webhooks), 0)::bigint FROM headshotpro.pulls
            WHERE started_at > now() - interval '1 day') AS missed_webhooks,
        (SELECT count(*) FROM headshotpro.refetch_requests) AS open_refetches
    FROM headshotpro.mirror_status
"""


def open_alerts(connection: Connection) -> list[dict[str, Any]]:
    """How many alerts of each kind are open, and since when; the newest kind first."""
    return queries.rows(connection, _ALERTS)


_ALERTS = """
    SELECT kind, count(*) AS number, count(acknowledged_at) AS acknowledged, max(opened_at) AS opened_at
    FROM headshotpro.alerts WHERE resolved_at IS NULL GROUP BY kind ORDER BY max(opened_at) DESC
"""


def accuracy(connection: Connection) -> dict[str, Any] | None:
    """The error rate of the fields of the list over 28 days, with its bound; None before it was computed."""
    return queries.row(connection, _ACCURACY)


_ACCURACY = """
    SELECT rate, upper_95, slo_target, slo_met FROM headshotpro.accuracy WHERE period = '28d' AND fields = 'list'
"""


def running_pulls(connection: Connection) -> list[dict[str, Any]]:
    """The pulls that run or wait for a person, and how far they are: `total` is null until the first page is read."""
    return queries.rows(connection, _PULLS)


_PULLS = """
    SELECT p.id, p.kind, p.status, p.started_at, p.pages, p.models_seen, p.requests, p.error,
        (c.state #>> '{walk,total}')::bigint AS total
    FROM headshotpro.pulls AS p LEFT JOIN headshotpro.pull_checkpoints AS c ON c.pull_id = p.id
    WHERE p.status IN ('running', 'held') ORDER BY p.id DESC LIMIT 5
"""


def events_by_minute(connection: Connection, minutes: int) -> list[dict[str, Any]]:
    """Of each minute how many events came, and in how many seconds 95 of 100 were in the mirror; the oldest first."""
    return queries.rows(connection, _EVENTS, minutes=minutes)


_EVENTS = """
    WITH minutes AS (
        SELECT generate_series(
            date_trunc('minute', now()) - make_interval(mins => :minutes - 1), date_trunc('minute', now()), '1 minute'
        ) AS at
    ), counted AS (
        SELECT date_trunc('minute', received_at) AS at, count(*) AS events,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM processed_at - received_at)) AS lag
        FROM headshotpro.webhook_events
        WHERE received_at >= date_trunc('minute', now()) - make_interval(mins => :minutes - 1)
        GROUP BY 1
    )
    SELECT minutes.at, coalesce(counted.events, 0) AS events, counted.lag FROM minutes LEFT JOIN counted USING (at)
    ORDER BY minutes.at
"""
