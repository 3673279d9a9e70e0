"""The figures of `/metrics` from Postgres: right for all processes together, and after each restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import accuracy_figures, event_lags, processes, queries
from service.storage.status_report import MirrorSnapshot, open_alerts, snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

# A scrape that takes longer than this is given up by then.
STATEMENT_TIMEOUT_MS = 3000


class MetricsData(NamedTuple):
    """The mirror at one moment.

    Attributes:
        pulls: of each kind how many `by_status`, how many `complete` ones and their `seconds` together, and sums of
            what all of them read (`pages`), wrote (`changes`) and missed.
        lags: as `event_lags.read` returns them.
        subscriptions: as `read_subscriptions` returns them.
    """

    now: MirrorSnapshot
    dead_events: int
    open_alerts: dict[str, int]
    pulls: Sequence[Mapping[str, Any]]
    processes: dict[str, int]
    lags: Mapping[str, float | None]
    accuracy: Sequence[Mapping[str, Any]]
    subscriptions: Sequence[Mapping[str, Any]]


_DEAD = "SELECT count(*) FROM headshotpro.webhook_events WHERE status = 'dead'"
_PULLS = """
    SELECT kind, jsonb_object_agg(status, number) AS by_status,
        coalesce(sum(number) FILTER (WHERE status = 'complete'), 0)::bigint AS complete,
        coalesce(sum(seconds) FILTER (WHERE status = 'complete'), 0)::float8 AS seconds,
        sum(pages)::bigint AS pages, sum(changes)::bigint AS changes, sum(missed_webhooks)::bigint AS missed_webhooks,
        sum(lost_webhooks)::bigint AS lost_webhooks
    FROM (
        SELECT kind, status, count(*) AS number, sum(extract(epoch FROM finished_at - started_at)) AS seconds,
            sum(pages) AS pages, sum(inserted + changed + tombstoned) AS changes,
            sum(missed_webhooks) AS missed_webhooks, sum(lost_webhooks) AS lost_webhooks
        FROM headshotpro.pulls GROUP BY kind, status
    ) AS counted GROUP BY kind
"""


def figures(connection: Connection) -> MetricsData:
    """The mirror as it is now. For a transaction of this alone."""
    queries.run(connection, f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
    return MetricsData(
        snapshot(connection),
        queries.value(connection, _DEAD),
        {row["kind"]: row["number"] for row in open_alerts(connection)},
        queries.rows(connection, _PULLS),
        processes.count_alive(connection),
        event_lags.read(connection),
        accuracy_figures.read_figures(connection),
        read_subscriptions(connection),
    )


def read_subscriptions(connection: Connection) -> list[dict[str, Any]]:
    """All subscriptions, `subscriptions.MAX_SUBSCRIPTIONS` at most: `name`, `state`, and how much was `delivered`.

    `waiting` changes were read for one and not acknowledged, the oldest for `oldest_seconds`; its reading is `unread`
    ids behind the feed.
    """
    # The cursor is the first change that is not acknowledged, or that was not read yet: its age is an index lookup.
    statement = """
        SELECT s.name, s.state, s.delivered,
            (SELECT count(*) FROM headshotpro.subscription_deliveries AS d WHERE d.subscription_id = s.id) AS waiting,
            greatest(0, newest.id - s.read_to) AS unread,
            coalesce(greatest(0, extract(epoch FROM now() - oldest.recorded_at)), 0)::float8 AS oldest_seconds
        FROM headshotpro.subscriptions AS s
        CROSS JOIN (SELECT coalesce(max(id), 0) AS id FROM headshotpro.model_changes) AS newest
        LEFT JOIN LATERAL (
            SELECT recorded_at FROM headshotpro.model_changes WHERE id >= s.cursor ORDER BY id LIMIT 1
        ) AS oldest ON true
    """
    return queries.rows(connection, statement)
