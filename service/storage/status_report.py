"""The state of the whole mirror, as `status` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


class MirrorSnapshot(NamedTuple):
    """The mirror at one moment.

    Attributes:
        models: how many in each status; a status that was never named counts as `unknown`.
        last_complete_pull_at: when the last complete full pull ended.
        pull_age_seconds: how long ago that was, by Postgres' clock.
        open_alerts: alerts that are not resolved.
        late_webhooks: changes that pulls of the last 24 hours found, whose webhook was not there after five minutes.
        lost_webhooks: those whose webhook was not there after 90 minutes; they are not among the late ones.
        missed_webhooks: both together.
        spooled_events: deliveries that wait in Postgres.
        oldest_spooled_seconds: age of the oldest of them.
        open_refetches: refetch requests whose GET is still to be sent.
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
    last_event_at: datetime | None = None


_NOW = """
    SELECT models, newest_event_at AS last_event_at, last_complete_pull_at, pull_age_seconds, open_alerts,
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


def snapshot(connection: Connection) -> MirrorSnapshot:
    """The mirror as it is now."""
    return MirrorSnapshot(**queries.rows(connection, _NOW)[0])


def server_info(connection: Connection) -> tuple[str, datetime]:
    """Postgres' version and its clock."""
    row = queries.execute(connection, "SELECT current_setting('server_version'), clock_timestamp()").one()
    return str(row[0]), row[1]
