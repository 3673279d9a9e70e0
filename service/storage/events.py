"""`webhook_events`: what was processed, and how often it was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import arrays, queries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import Connection

COLUMNS = {
    "id": "text",
    "event": "text",
    "model_id": "text",
    "status": "text",
    "error": "text",
    "payload": "jsonb",
    "created_at": "timestamptz",
    "received_at": "timestamptz",
    "signed_at": "timestamptz",
    "delivery_ids": "text[]",
}

_UPDATE_REPLAYED = f"""
    UPDATE headshotpro.webhook_events AS old SET event = new.event, model_id = new.model_id, status = new.status,
        error = new.error, created_at = new.created_at, processed_at = now()
    FROM {arrays.table(COLUMNS)} WHERE old.id = new.id
"""  # noqa: S608 - names of our own columns


def update_replayed(connection: Connection, events: Sequence[Mapping[str, Any]]) -> None:
    """Write what became of events that were merged again; takes the same mappings as `merged.MergedRows`."""
    if events:
        queries.run(connection, _UPDATE_REPLAYED, **arrays.columns(COLUMNS, events))


def lock(connection: Connection, ids: Collection[str]) -> None:
    """Lock events until the transaction ends, in the order in which a slice of an erasure locks them."""
    statement = f"SELECT FROM headshotpro.webhook_events WHERE id = ANY({arrays.IDS_ARRAY}) ORDER BY id FOR UPDATE"
    queries.execute(connection, statement, ids=arrays.encode([*ids]))


def one(connection: Connection, event_id: str) -> dict[str, Any] | None:
    """One event with its payload."""
    return queries.row(connection, "SELECT * FROM headshotpro.webhook_events WHERE id = :id", id=event_id)
