"""`webhook_events`: what was processed, and how often it was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from service.storage import arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

# This many deliveries of an event are known by their ids; one that is read again after more of them counts twice.
MAX_DELIVERY_IDS = 50

NEW = arrays.table(COLUMNS)
# Of a model whose personal data was erased no payload is kept any more. Parameter `ids`: models that may be erased.
KEPT_PAYLOAD = f"""
    CASE WHEN model_id = ANY(ARRAY(
        SELECT m.id FROM headshotpro.models AS m WHERE m.id = ANY({arrays.IDS_ARRAY}) AND m.erased_at IS NOT NULL
    )) THEN NULL ELSE payload END
"""  # noqa: S608 - our own words

# Write events, each id once; one that is there already only counts the deliveries that are new. Parameters of
# `encode_events`. `processed_at` is the time of this statement. It leaves out what follows until the row can be read:
# the rest of the merge's rows, and the commit. `headshotpro_event_to_row_seconds` contains both.
RECORD = f"""
    INSERT INTO headshotpro.webhook_events
        (id, event, model_id, status, error, payload, created_at, received_at, signed_at, delivery_ids, deliveries,
        processed_at)
    SELECT id, event, model_id, status, error, {KEPT_PAYLOAD}, created_at, received_at, signed_at, delivery_ids,
        cardinality(delivery_ids), clock_timestamp()
    FROM {NEW} ORDER BY id
    ON CONFLICT (id) DO UPDATE SET (deliveries, delivery_ids) = (
        SELECT webhook_events.deliveries + count(*),
            (coalesce(webhook_events.delivery_ids, '{{}}') || coalesce(array_agg(new_id), '{{}}'))[1:{MAX_DELIVERY_IDS}]
        FROM unnest(excluded.delivery_ids) AS new_id
        WHERE NOT new_id = ANY(coalesce(webhook_events.delivery_ids, '{{}}'))
    )
"""  # noqa: S608 - names of our own columns


def encode_events(events: Sequence[Mapping[str, Any]], maybe_erased: Sequence[str]) -> dict[str, str]:
    """The parameters of `RECORD`.

    Args:
        events: a mapping with the keys of `COLUMNS` for each; `payload` is a raw JSON document.
        maybe_erased: those of their models that the transaction has not locked and found not to be erased.
    """
    return {**arrays.columns(COLUMNS, events), "ids": arrays.encode(maybe_erased)}


_UPDATE_REPLAYED = text(
    f"""
    UPDATE headshotpro.webhook_events AS old SET event = new.event, model_id = new.model_id, status = new.status,
        error = new.error, created_at = new.created_at, processed_at = now()
    FROM {NEW} WHERE old.id = new.id
    """  # noqa: S608 - names of our own columns
)


def update_replayed(connection: Connection, events: Sequence[Mapping[str, Any]]) -> None:
    """Write what became of events that were merged again; takes the same mappings as `record`."""
    if events:
        connection.execute(_UPDATE_REPLAYED, arrays.columns(COLUMNS, events))


def one(connection: Connection, event_id: str) -> dict[str, Any] | None:
    """One event with its payload."""
    statement = text("SELECT * FROM headshotpro.webhook_events WHERE id = :id")
    row = connection.execute(statement, {"id": event_id}).mappings().first()
    return dict(row) if row else None
