"""`webhook_events`: what was processed, and how often it was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

COLUMNS = {
    "id": "text",
    "event": "text",
    "model_id": "text",
    "status": "text",
    "error": "text",
    "payload": "text",
    "created_at": "timestamptz",
    "received_at": "timestamptz",
    "deliveries": "integer",
}

_RECORD = text(
    f"""
    INSERT INTO headshotpro.webhook_events
        (id, event, model_id, status, error, payload, created_at, received_at, deliveries, processed_at)
    SELECT id, event, model_id, status, error, CAST(payload AS jsonb), created_at, received_at, deliveries, :now
    FROM unnest({", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in COLUMNS.items())})
        AS new ({", ".join(COLUMNS)})
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        deliveries = webhook_events.deliveries + excluded.deliveries
    """  # noqa: S608 - names of our own columns
)


def processed(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the events that were processed before."""
    statement = text("SELECT id FROM headshotpro.webhook_events WHERE id = ANY(CAST(:ids AS text[]))")
    return set(connection.execute(statement, {"ids": list(ids)}).scalars())


def record(connection: Connection, events: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Write events, each id once; one that is there already only counts its deliveries.

    Args:
        connection: the transaction that merged them.
        events: a mapping with the keys of `COLUMNS` for each; `payload` is JSON text.
        now: our time of the write.
    """
    if not events:
        return
    columns = {name: [event[name] for event in events] for name in COLUMNS}
    connection.execute(_RECORD, {**columns, "now": now})


def listed(
    connection: Connection, *, status: str | None = None, model_id: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The newest events, without their payloads."""
    statement = text(
        """
        SELECT id, event, model_id, status, error, created_at, received_at, processed_at, deliveries
        FROM headshotpro.webhook_events
        WHERE (CAST(:status AS text) IS NULL OR status = :status)
            AND (CAST(:model_id AS text) IS NULL OR model_id = :model_id)
        ORDER BY received_at DESC, id LIMIT :limit
        """
    )
    rows = connection.execute(statement, {"status": status, "model_id": model_id, "limit": limit}).mappings()
    return [dict(row) for row in rows]


def one(connection: Connection, event_id: str) -> dict[str, Any] | None:
    """One event with its payload."""
    statement = text("SELECT * FROM headshotpro.webhook_events WHERE id = :id")
    row = connection.execute(statement, {"id": event_id}).mappings().first()
    return dict(row) if row else None
