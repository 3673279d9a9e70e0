"""`webhook_events`: what was processed, and how often it was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.storage import arrays

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


class EventFilter(NamedTuple):
    """Which events are meant; what is None does not narrow them.

    Attributes:
        ids: these.
        status: applied, stale, ignored or dead.
        event: what happened, such as model.deleted.
        model_id: the model.
        since: received at this time or later.
        until: received before this time.
    """

    ids: Sequence[str] | None = None
    status: str | None = None
    event: str | None = None
    model_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_FILTER_SQL = """
    (CAST(:ids AS text[]) IS NULL OR id = ANY(CAST(:ids AS text[])))
    AND (CAST(:status AS text) IS NULL OR status = :status)
    AND (CAST(:event AS text) IS NULL OR event = :event)
    AND (CAST(:model_id AS text) IS NULL OR model_id = :model_id)
    AND (CAST(:since AS timestamptz) IS NULL OR received_at >= :since)
    AND (CAST(:until AS timestamptz) IS NULL OR received_at < :until)
"""


def list_after(
    connection: Connection, event_filter: EventFilter, above: str, limit: int, size: int
) -> list[dict[str, Any]]:
    """The next of the wanted events in the order of their ids, with their payloads.

    Args:
        connection: a transaction.
        event_filter: which events.
        above: the id after which they begin.
        limit: how many at most.
        size: their payloads' bytes at most; the first one comes whatever its size.
    """
    statement = text(
        f"""
        WITH found AS MATERIALIZED (
            SELECT * FROM headshotpro.webhook_events WHERE id > :above AND {_FILTER_SQL} ORDER BY id LIMIT :limit
        ), counted AS (
            SELECT id AS counted_id, coalesce(octet_length(CAST(payload AS text)), 0) AS size FROM found
        ), summed AS (
            SELECT counted_id, size, sum(size) OVER (ORDER BY counted_id) AS so_far FROM counted
        )
        SELECT found.* FROM found JOIN summed ON counted_id = id
        WHERE so_far <= :size OR so_far = size ORDER BY id
        """  # noqa: S608 - our own words
    )
    values = {**event_filter._asdict(), "above": above, "limit": limit, "size": size}
    return [dict(row) for row in connection.execute(statement, values).mappings()]


def list_rows(connection: Connection, event_filter: EventFilter, limit: int) -> list[dict[str, Any]]:
    """The newest of the wanted events, without their payloads."""
    statement = text(
        "SELECT id, event, model_id, status, error, created_at, received_at, processed_at, deliveries "  # noqa: S608
        f"FROM headshotpro.webhook_events WHERE {_FILTER_SQL} ORDER BY received_at DESC, id LIMIT :limit"
    )
    found = connection.execute(statement, {**event_filter._asdict(), "limit": limit}).mappings()
    return [dict(row) for row in found]


def one(connection: Connection, event_id: str) -> dict[str, Any] | None:
    """One event with its payload."""
    statement = text("SELECT * FROM headshotpro.webhook_events WHERE id = :id")
    row = connection.execute(statement, {"id": event_id}).mappings().first()
    return dict(row) if row else None
