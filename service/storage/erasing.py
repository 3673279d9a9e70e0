"""Personal data of tombstones: which are due, and every place where they are taken out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# What tells who somebody is. Ids, times and statuses stay: they are what dashboards count.
PERSONAL = ("email", "title", "uid", "trigger")


def due(connection: Connection, deleted_before: datetime, limit: int) -> list[str]:
    """Tombstones that were deleted before a time and still have their personal data, the oldest first."""
    statement = text(
        "SELECT id FROM headshotpro.models WHERE status = 'deleted' AND erased_at IS NULL "
        "AND deleted_at < :deleted_before ORDER BY deleted_at LIMIT :limit"
    )
    return list(connection.execute(statement, {"deleted_before": deleted_before, "limit": limit}).scalars())


def erase(connection: Connection, ids: Sequence[str], now: datetime) -> list[dict[str, Any]]:
    """Take the personal data of tombstones out of every table.

    Args:
        connection: the transaction that holds the locks of their clocks.
        ids: models; one that is alive or was erased before is left alone.
        now: our time of it.

    Returns:
        The rows as they were.
    """
    statement = text("SELECT * FROM headshotpro.models WHERE id = ANY(CAST(:ids AS text[]))")
    rows = connection.execute(statement, {"ids": list(ids)}).mappings()
    erased = [dict(row) for row in rows if row["status"] == "deleted" and row["erased_at"] is None]
    values = {
        "ids": [row["id"] for row in erased],
        "now": now,
        "personal": list(PERSONAL),
        "nothing": json.dumps([None, None]),
    }
    for step in _STEPS if erased else ():
        connection.execute(step, values)
    return erased


_STEPS = (
    # A digest of personal data can be held against a guess; and no page may confirm what was erased.
    text("UPDATE headshotpro.model_clocks SET shown_mark = NULL WHERE model_id = ANY(CAST(:ids AS text[]))"),
    text(
        f"""
        UPDATE headshotpro.models SET {", ".join(f"{name} = NULL" for name in PERSONAL)}, erased_at = :now,
            updated_at = :now
        WHERE id = ANY(CAST(:ids AS text[]))
        """  # noqa: S608 - names of our own columns
    ),
    # A column that changed is still seen to have changed, from nothing to nothing.
    text(
        """
        UPDATE headshotpro.model_changes SET changed = changed || (
            SELECT jsonb_object_agg(key, CAST(:nothing AS jsonb))
            FROM jsonb_object_keys(changed) AS key WHERE key = ANY(CAST(:personal AS text[]))
        )
        WHERE model_id = ANY(CAST(:ids AS text[])) AND jsonb_exists_any(changed, CAST(:personal AS text[]))
        """
    ),
    text(
        "UPDATE headshotpro.webhook_events SET payload = NULL "
        "WHERE model_id = ANY(CAST(:ids AS text[])) AND payload IS NOT NULL"
    ),
    text("UPDATE headshotpro.alerts SET detail = '{}' WHERE model_id = ANY(CAST(:ids AS text[])) AND detail <> '{}'"),
)
