"""What is new in `model_changes` and `webhook_events`, for pages of the console that are open.

Changes have ids in the order of their commits, as for every reader of the feed. Events have none: several workers
commit them in any order. So the newest ones by their receipt are compared with those of the last time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.storage import api_queries, queries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

# Two batches of a drain: an event that is committed later than this many newer ones is not seen.
EVENT_WINDOW = 2_000


class ChangeNews(NamedTuple):
    """Some changes in the order of their ids.

    `newest` is the newest id of the feed that is theirs or was left out; `more`: some were left out.
    """

    rows: list[dict[str, Any]]
    newest: int
    more: bool


def changes_after(connection: Connection, after: int, limit: int) -> ChangeNews:
    """The changes after an id."""
    statement = """
        SELECT id, model_id, to_status, source, event_id FROM headshotpro.model_changes
        WHERE id > :after ORDER BY id LIMIT :limit
    """
    rows = queries.rows(connection, statement, after=after, limit=limit + 1)
    if len(rows) <= limit:
        return ChangeNews(rows, rows[-1]["id"] if rows else after, more=False)
    return ChangeNews(rows[:limit], api_queries.newest_change(connection) or 0, more=True)


def newest_events(connection: Connection) -> dict[str, int]:
    """The ids of the newest events, to when each was received in microseconds of Unix time; the newest first."""
    # As two arrays: rows would take ten times as long to read.
    statement = """
        SELECT array_agg(id), array_agg(CAST(extract(epoch FROM received_at) * 1000000 AS bigint)) FROM (
            SELECT id, received_at FROM headshotpro.webhook_events ORDER BY received_at DESC LIMIT :limit
        ) AS newest
    """
    ids, times = queries.execute(connection, statement, limit=EVENT_WINDOW).one()
    return dict(zip(ids or (), times or (), strict=True))


def events(connection: Connection, ids: Iterable[str]) -> list[dict[str, Any]]:
    """`id`, `event`, `model_id`, `status` and `error` of some events, the oldest first."""
    statement = """
        SELECT id, event, model_id, status, error FROM headshotpro.webhook_events
        WHERE id = ANY(CAST(:ids AS text[])) ORDER BY received_at, id
    """
    return queries.rows(connection, statement, ids=list(ids))
