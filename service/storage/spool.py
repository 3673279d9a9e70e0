"""`event_spool`: deliveries that Redis could not take, until they are applied.

Why: `docs/decisions/0011-the-spool.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.broker.inbox import Delivery
from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection


def put(connection: Connection, delivery: Delivery) -> None:
    """Keep a delivery; it is safe when the transaction, one of its own, has committed."""
    statement = (
        "INSERT INTO headshotpro.event_spool (body, signed_at, received_at, delivery_id, event_id) "
        "VALUES (:body, :signed_at, :received_at, :delivery_id, :event_id)"
    )
    queries.run(connection, statement, **(delivery._asdict() | {"signed_at": int(delivery.signed_at.timestamp())}))


def take(connection: Connection, count: int, size: int) -> list[Delivery]:
    """Remove and return the oldest deliveries that no other transaction is taking; a rollback puts them back.

    At most `count`, and `size` bytes of bodies; the oldest one is taken whatever its size.
    """
    taken = queries.execute(connection, _TAKE, count=count, size=size).all()
    return [
        Delivery(one.body, one.signed or one.received_at, one.received_at, one.delivery_id, one.event_id, str(one.id))
        for one in sorted(taken, key=lambda one: one.id)
    ]


_TAKE = """
    WITH oldest AS MATERIALIZED (
        SELECT id, octet_length(body) AS size FROM headshotpro.event_spool
        ORDER BY id LIMIT :count FOR UPDATE SKIP LOCKED
    ), counted AS (
        SELECT id, size, sum(size) OVER (ORDER BY id) AS so_far FROM oldest
    )
    DELETE FROM headshotpro.event_spool
    WHERE id = ANY(ARRAY(SELECT id FROM counted WHERE so_far <= :size OR so_far = size))
    -- It arrived before now, and was signed at a time, whatever a person may have written.
    RETURNING id, body, greatest(least(received_at, now()), 'epoch') AS received_at, event_id,
        coalesce(nullif(delivery_id, ''), 'spool-' || id) AS delivery_id,
        CASE WHEN signed_at BETWEEN 0 AND 253402300799 THEN to_timestamp(signed_at) END AS signed
"""


def remove(connection: Connection, ids: Sequence[int]) -> int:
    """Take certain deliveries out: how many of them were still there."""
    statement = "DELETE FROM headshotpro.event_spool WHERE id = ANY(CAST(:ids AS bigint[]))"
    return queries.run(connection, statement, ids=list(ids))


def oldest_received_at(connection: Connection) -> datetime | None:
    """When the oldest delivery that waits here came; None where none waits."""
    found: datetime | None = queries.value(connection, "SELECT min(received_at) FROM headshotpro.event_spool")
    return found


def any_waiting(connection: Connection) -> bool:
    """Whether a delivery waits here."""
    return bool(queries.value(connection, "SELECT EXISTS (SELECT FROM headshotpro.event_spool)"))
