"""`model_changes`: append in commit order, and tell those who listen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# Held from the giving out of ids to the commit, so that ids become visible in their order.
COMMIT_ORDER_LOCK = 0x48534343

_APPEND = text(
    """
    WITH added AS (
        INSERT INTO headshotpro.model_changes
            (model_id, from_status, to_status, changed, source, event_id, pull_id, observed_at, recorded_at)
        SELECT model_id, from_status, to_status, CAST(changed AS jsonb), source, event_id, pull_id, observed_at, :now
        FROM unnest(
            CAST(:model_id AS text[]), CAST(:from_status AS text[]), CAST(:to_status AS text[]),
            CAST(:changed AS text[]), CAST(:source AS text[]), CAST(:event_id AS text[]),
            CAST(:pull_id AS bigint[]), CAST(:observed_at AS timestamptz[])
        ) WITH ORDINALITY AS new
            (model_id, from_status, to_status, changed, source, event_id, pull_id, observed_at, place)
        ORDER BY place
        RETURNING id
    )
    SELECT pg_notify('headshotpro_changes', CAST(max(id) AS text)) FROM added
    """
)

COLUMNS = ("model_id", "from_status", "to_status", "changed", "source", "event_id", "pull_id", "observed_at")


def append(connection: Connection, changes: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Write changes in the order given, as the last statements of their transaction.

    From here to the commit no other writer gets ids; whatever takes long comes before.

    Args:
        connection: the transaction in which the models themselves are written.
        changes: a mapping with the keys of `COLUMNS` for each; `changed` maps a column to [old, new].
        now: our time of the write.
    """
    if not changes:
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": COMMIT_ORDER_LOCK})
    columns = {name: [change[name] for change in changes] for name in COLUMNS}
    columns["changed"] = [json.dumps(changed) for changed in columns["changed"]]
    connection.execute(_APPEND, {**columns, "now": now})


def of_model(connection: Connection, model_id: str, limit: int = 1000) -> list[dict[str, Any]]:
    """The history of a model, the newest change first."""
    statement = text("SELECT * FROM headshotpro.model_changes WHERE model_id = :id ORDER BY id DESC LIMIT :limit")
    rows = connection.execute(statement, {"id": model_id, "limit": limit}).mappings()
    return [dict(row) for row in rows]
