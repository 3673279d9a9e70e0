"""Retention of old rows: they are deleted in small batches, so that no drain ever waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_LAST_ID = 2**63 - 1

_PURGE_EVENTS = text(
    """
    DELETE FROM headshotpro.webhook_events WHERE id = ANY(ARRAY(
        SELECT id FROM headshotpro.webhook_events WHERE received_at < :before
        ORDER BY received_at LIMIT :count FOR UPDATE SKIP LOCKED
    ))
    """
)
# The oldest ids go first, so that what is kept of the feed has no hole; the newest stays, so that readers can see that
# they fell behind. Changes that a subscription has not acknowledged stay until it is disabled.
_PURGE_CHANGES = text(
    """
    DELETE FROM headshotpro.model_changes WHERE id = ANY(ARRAY(
        SELECT id FROM headshotpro.model_changes
        WHERE recorded_at < :before AND id < (SELECT max(id) FROM headshotpro.model_changes)
            AND id < coalesce((SELECT min(cursor) FROM headshotpro.subscriptions WHERE state <> 'disabled'), :none)
        ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ))
    """
)


_PURGE_SET_ASIDE = text(
    """
    DELETE FROM headshotpro.set_aside WHERE id = ANY(ARRAY(
        SELECT id FROM headshotpro.set_aside WHERE resolved_at < :before ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ))
    """
)


def purge_events(connection: Connection, before: datetime, count: int) -> int:
    """Remove some of the events that were received before a time: how many went."""
    return connection.execute(_PURGE_EVENTS, {"before": before, "count": count}).rowcount


def purge_changes(connection: Connection, before: datetime, count: int) -> int:
    """Remove some of the changes that were recorded before a time: how many went."""
    return connection.execute(_PURGE_CHANGES, {"before": before, "count": count, "none": _LAST_ID}).rowcount


def purge_set_aside(connection: Connection, before: datetime, count: int) -> int:
    """Remove some of what was set aside and resolved before a time: how many rows went."""
    return connection.execute(_PURGE_SET_ASIDE, {"before": before, "count": count}).rowcount
