"""Retention of old rows: they are deleted in small batches, so that no drain ever waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.storage import queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


class OldRows(NamedTuple):
    """Rows of a table that are removed when they are old.

    `time` is the column by which their age counts, `order` that in whose order they go.
    """

    table: str
    time: str
    order: str
    condition: str = "true"


EVENTS = OldRows("webhook_events", "received_at", "received_at")
# The oldest ids go first, so that what is kept of the feed has no hole; the newest stays, so that readers can see that
# they fell behind. Changes that a subscription has not acknowledged stay until it is disabled.
CHANGES = OldRows(
    "model_changes",
    "recorded_at",
    "id",
    "id < (SELECT max(id) FROM headshotpro.model_changes) AND NOT EXISTS ("
    "SELECT FROM headshotpro.subscriptions WHERE state <> 'disabled' AND cursor <= model_changes.id)",
)
SET_ASIDE = OldRows("set_aside", "resolved_at", "id")
ACTS = OldRows("audit_log", "at", "at")
TASKS = OldRows("tasks", "finished_at", "id")
FOREIGN_WRITES = OldRows("foreign_writes", "written_at", "id")
# One note is enough to have a row compared; a program that writes rows often would leave many. The newest stays: ids of
# one model are in the order of commits, because the trigger draws them under the lock of its row.
REPEATED_FOREIGN_WRITES = OldRows(
    "foreign_writes",
    "written_at",
    "id",
    "EXISTS (SELECT FROM headshotpro.foreign_writes AS newer "
    "WHERE newer.model_id = foreign_writes.model_id AND newer.id > foreign_writes.id)",
)
ACCURACY_CHECKS = OldRows("accuracy_checks", "checked_at", "checked_at")


def purge(connection: Connection, old: OldRows, before: datetime, count: int) -> int:
    """Remove at most `count` of the rows from before a time: how many went."""
    table, time, order, condition = old
    statement = f"""
        DELETE FROM headshotpro.{table} WHERE id = ANY(ARRAY(
            SELECT id FROM headshotpro.{table} WHERE {time} < :before AND {condition}
            ORDER BY {order} LIMIT :count FOR UPDATE SKIP LOCKED
        ))
    """  # noqa: S608 - constants of this module
    return queries.run(connection, statement, before=before, count=count)
