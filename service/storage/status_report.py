"""The state of the whole mirror, as `status` and the console's overview show it.

`status_samples`: how many models were in each status over time; counting them takes too long for a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import queries, suspects

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


class MirrorSnapshot(NamedTuple):
    """The mirror at one moment.

    Attributes:
        models: how many in each status; a status that was never named counts as `unknown`.
        last_complete_pull_at: when the last complete full pull ended.
        pull_age_seconds: how long ago that was, by Postgres' clock.
        late_webhooks: changes that pulls of the last 24 hours found, whose webhook was not there after five minutes.
        lost_webhooks: those whose webhook was not there after 90 minutes; they are not among the late ones.
        spooled_events: deliveries that wait in Postgres.
        kept_suspects: as `suspects.count_kept` counts them.
        last_event_at: when the newest event that is kept was accepted.
    """

    models: dict[str, int]
    last_complete_pull_at: datetime | None
    pull_age_seconds: float | None
    open_alerts: int
    late_webhooks: int
    lost_webhooks: int
    missed_webhooks: int
    spooled_events: int
    oldest_spooled_seconds: float | None
    open_refetches: int
    kept_suspects: int
    last_event_at: datetime | None = None


# Columns of the view that are not named cost nothing.
_NOW = """
    SELECT newest_event_at AS last_event_at, last_complete_pull_at, pull_age_seconds, open_alerts,
        spooled_events, late_webhooks, lost_webhooks, missed_webhooks,
        (SELECT extract(epoch FROM now() - min(received_at))::float FROM headshotpro.event_spool)
            AS oldest_spooled_seconds,
        (SELECT count(*) FROM headshotpro.refetch_requests) AS open_refetches
    FROM headshotpro.mirror_status CROSS JOIN (
        SELECT coalesce(sum(late_webhooks), 0)::bigint AS late_webhooks,
            coalesce(sum(lost_webhooks), 0)::bigint AS lost_webhooks,
            coalesce(sum(missed_webhooks), 0)::bigint AS missed_webhooks
        FROM headshotpro.pulls WHERE started_at > now() - interval '1 day'
    ) AS missed
"""


def snapshot(connection: Connection, *, counts: bool = True) -> MirrorSnapshot:
    """The mirror as it is now. Without `counts`, no models, and no kept suspects: that takes milliseconds always."""
    models = count_now(connection) if counts else {}
    kept = suspects.count_kept(connection) if counts else 0
    return MirrorSnapshot(models=models, kept_suspects=kept, **queries.rows(connection, _NOW)[0])


def server_info(connection: Connection) -> tuple[str, datetime]:
    """Postgres' version and its clock."""
    row = queries.execute(connection, "SELECT current_setting('server_version'), clock_timestamp()").one()
    return str(row[0]), row[1]


def open_alerts(connection: Connection) -> list[dict[str, Any]]:
    """How many alerts of each kind are open, and since when; the newest kind first."""
    statement = """
        SELECT kind, count(*) AS number, count(acknowledged_at) AS acknowledged, max(opened_at) AS opened_at
        FROM headshotpro.alerts WHERE resolved_at IS NULL GROUP BY kind ORDER BY max(opened_at) DESC
    """
    return queries.rows(connection, statement)


def accuracy(connection: Connection) -> dict[str, Any] | None:
    """The error rate of the fields of the list over 28 days, with its bound; None before it was computed."""
    statement = """
        SELECT rate, upper_95, slo_target, slo_met FROM headshotpro.accuracy WHERE period = '28d' AND fields = 'list'
    """
    return queries.row(connection, statement)


def running_pulls(connection: Connection) -> list[dict[str, Any]]:
    """The pulls that run or wait for a person, and how far they are: `total` is null until the first page is read."""
    statement = """
        SELECT p.id, p.kind, p.status, p.started_at, p.pages, p.models_seen, p.requests, p.error,
            (c.state #>> '{walk,total}')::bigint AS total
        FROM headshotpro.pulls AS p LEFT JOIN headshotpro.pull_checkpoints AS c ON c.pull_id = p.id
        WHERE p.status IN ('running', 'held') ORDER BY p.id DESC LIMIT 5
    """
    return queries.rows(connection, statement)


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


INTERVAL_SECONDS = 300
RETENTION_DAYS = 31


def add_sample_if_due(connection: Connection) -> None:
    """Count the models now, unless the newest sample is younger than five minutes; delete those over 31 days old."""
    queries.run(connection, _ADD, interval=INTERVAL_SECONDS)
    queries.run(connection, _DELETE_OLD, days=RETENTION_DAYS)


_ADD = """
    INSERT INTO headshotpro.status_samples (at, models)
    SELECT now(), models FROM headshotpro.mirror_status
    WHERE NOT EXISTS (
        SELECT FROM headshotpro.status_samples WHERE at > now() - make_interval(secs => :interval)
    )
    ON CONFLICT DO NOTHING
"""
_DELETE_OLD = "DELETE FROM headshotpro.status_samples WHERE at < now() - make_interval(days => :days)"


def count_now(connection: Connection) -> dict[str, int]:
    """How many models are in each status now; it reads an index of all models."""
    counted: dict[str, int] = queries.value(connection, "SELECT models FROM headshotpro.mirror_status")
    return counted


def newest_sample(connection: Connection) -> dict[str, Any] | None:
    """The newest sample: `at` and `models`; None before the first one."""
    return queries.row(connection, "SELECT at, models FROM headshotpro.status_samples ORDER BY at DESC LIMIT 1")


def sample_series(connection: Connection, hours: int, step_seconds: int) -> list[dict[str, Any]]:
    """The last sample of each step, the oldest first; `at` is the beginning of the step."""
    statement = """
        SELECT DISTINCT ON (step) to_timestamp(step * :step) AS at, models FROM (
            SELECT at, models, floor(extract(epoch FROM at) / :step) AS step FROM headshotpro.status_samples
            WHERE at > now() - make_interval(hours => :hours)
        ) AS stepped ORDER BY step, stepped.at DESC
    """
    return queries.rows(connection, statement, hours=hours, step=step_seconds)
