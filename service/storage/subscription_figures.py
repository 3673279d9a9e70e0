"""The figures of subscriptions for `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection


class SubscriptionFigures(NamedTuple):
    """One subscription.

    `waiting` changes were read for it and not acknowledged, the oldest for `oldest_seconds`; its reading is
    `unread` ids behind the feed.
    """

    name: str
    state: str
    delivered: int
    waiting: int
    unread: int
    oldest_seconds: float


def read(connection: Connection) -> list[SubscriptionFigures]:
    """All subscriptions, `subscriptions.MAX_SUBSCRIPTIONS` at most."""
    return [SubscriptionFigures(**row) for row in queries.rows(connection, _FIGURES)]


# The cursor is the first change that is not acknowledged, or that was not read yet: its age is an index lookup.
_FIGURES = """
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
