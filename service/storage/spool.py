"""`event_spool`: deliveries that Redis could not take, until they are applied.

Why: `docs/decisions/0011-the-spool.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


def put(  # noqa: PLR0917 - the fields of a delivery, in their order
    connection: Connection,
    body: bytes,
    signed_at: int,
    received_at: datetime,
    delivery_id: str,
    event_id: str | None = None,
) -> None:
    """Keep a delivery; it is safe when the transaction has committed.

    Args:
        connection: a transaction of its own.
        body: its body, without login links.
        signed_at: its signed timestamp, in Unix seconds.
        received_at: our time of its arrival.
        delivery_id: the endpoint's id of it.
        event_id: the id of its event.
    """
    statement = text(
        "INSERT INTO headshotpro.event_spool (body, signed_at, received_at, delivery_id, event_id) "
        "VALUES (:body, :signed_at, :received_at, :delivery_id, :event_id)"
    )
    values = {
        "body": body,
        "signed_at": signed_at,
        "received_at": received_at,
        "delivery_id": delivery_id,
        "event_id": event_id,
    }
    connection.execute(statement, values)


def take(connection: Connection, count: int, size: int) -> list[dict[str, Any]]:
    """Take the oldest deliveries out, but those that another transaction is taking; a rollback puts them back.

    Args:
        connection: a transaction.
        count: how many at most.
        size: their bodies' bytes at most; the oldest one is taken whatever its size.
    """
    taken = connection.execute(_TAKE, {"count": count, "size": size}).mappings()
    return sorted((dict(row) for row in taken), key=lambda row: row["id"])


_TAKE = text(
    """
    WITH oldest AS MATERIALIZED (
        SELECT id, octet_length(body) AS size FROM headshotpro.event_spool
        ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ), counted AS (
        SELECT id, size, sum(size) OVER (ORDER BY id) AS so_far FROM oldest
    )
    DELETE FROM headshotpro.event_spool
    WHERE id = ANY(ARRAY(SELECT id FROM counted WHERE so_far <= :size OR so_far = size))
    -- It arrived before now, whatever a person may have written.
    RETURNING id, body, signed_at, greatest(least(received_at, now()), 'epoch') AS received_at, delivery_id, event_id
    """
)


def remove(connection: Connection, ids: Sequence[int]) -> int:
    """Take certain deliveries out: how many of them were still there."""
    statement = text("DELETE FROM headshotpro.event_spool WHERE id = ANY(CAST(:ids AS bigint[]))")
    return connection.execute(statement, {"ids": list(ids)}).rowcount


def any_waiting(connection: Connection) -> bool:
    """Whether a delivery waits here."""
    return bool(connection.execute(text("SELECT EXISTS (SELECT FROM headshotpro.event_spool)")).scalar_one())
