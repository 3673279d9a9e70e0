"""`model_changes`: append in commit order, notify listeners, and list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from service.model_fields import FIELDS, Kind
from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

# `write_merged_1` holds it from the giving out of ids to the commit, so that ids become visible in their order. Whoever
# has to keep changes from being written meanwhile takes it, too.
COMMIT_ORDER_LOCK = 0x48534343
# How far `recorded_at` may be out of the order of commits: the length of a batch and what two machines' clocks differ.
MAX_COMMIT_DISORDER = timedelta(minutes=1)

TYPES = {
    "model_id": "text",
    "from_status": "text",
    "to_status": "text",
    "changed": "jsonb",
    "source": "text",
    "event_id": "text",
    "pull_id": "bigint",
    "observed_at": "timestamptz",
}


# Values of the other columns are JSON as they are.
_TIME_COLUMNS = frozenset({field.column for field in FIELDS if field.kind is Kind.TIME} | {"deleted_at", "erased_at"})


def change_row(
    model_id: str,
    changed: Mapping[str, Sequence[Any]],
    source: str,
    observed_at: datetime,
    *,
    event_id: str | None = None,
    pull_id: int | None = None,
) -> dict[str, Any]:
    """A row of `model_changes`, see `merged.append`.

    Args:
        model_id: the model.
        changed: each column that changed, to [old, new].
        source: `webhook`, `pull`, `refetch`, `api` or `erase`.
        observed_at: upstream time of the observation.
        event_id: the event that contained it.
        pull_id: the pull that found it.
    """
    from_status, to_status = changed.get("status", (None, None))
    return {
        "model_id": model_id,
        "from_status": from_status,
        "to_status": to_status,
        "changed": {name: [*map(to_json, pair)] if name in _TIME_COLUMNS else pair for name, pair in changed.items()},
        "source": source,
        "event_id": event_id,
        "pull_id": pull_id,
        "observed_at": observed_at,
    }


def to_json(value: Any) -> Any:
    """A column's value as JSON; times as ISO 8601 in UTC, whatever zone the connection shows them in."""
    # msgspec writes a time in a sixth of the time that `isoformat` takes; it ends UTC with a Z.
    return msgspec.to_builtins(value.astimezone(UTC))[:-1] + "+00:00" if isinstance(value, datetime) else value


def one(connection: Connection, change_id: int) -> dict[str, Any] | None:
    """One change."""
    return queries.row(connection, "SELECT * FROM headshotpro.model_changes WHERE id = :id", id=change_id)


def first_since(connection: Connection, moment: datetime) -> int | None:
    """The least id of the changes that were recorded at a time (ours) or later; None where there is none.

    Times are not quite in the order of ids: after the first of them it reads on for as long as they may be out of it.
    """
    found: int | None = queries.value(connection, _FIRST_SINCE, moment=moment, disorder=MAX_COMMIT_DISORDER)
    return found


# Materialized: for the least id Postgres would else walk all ids from the first.
_FIRST_SINCE = """
    WITH first AS (
        SELECT recorded_at FROM headshotpro.model_changes
        WHERE recorded_at >= :moment ORDER BY recorded_at LIMIT 1
    ), near AS MATERIALIZED (
        SELECT c.id FROM headshotpro.model_changes AS c, first
        WHERE c.recorded_at BETWEEN first.recorded_at AND first.recorded_at + :disorder
    )
    SELECT min(id) FROM near
"""


def origins(connection: Connection, model_id: str) -> dict[str, dict[str, Any]]:
    """For each field of a model the change that gave it its value; a field that never had one has none."""
    statement = """
        SELECT DISTINCT ON (field) field, c.source, c.event_id, c.pull_id, c.observed_at, c.recorded_at
        FROM (
            SELECT * FROM headshotpro.model_changes WHERE model_id = :id ORDER BY id DESC LIMIT 1000
        ) AS c, jsonb_object_keys(c.changed) AS field
        ORDER BY field, c.id DESC
    """
    return {row.pop("field"): row for row in queries.rows(connection, statement, id=model_id)}


def page(connection: Connection, before: int | None = None, limit: int = 1000, **facts: Any) -> list[dict[str, Any]]:
    """The changes with smaller ids than `before`, the newest first.

    Facts (`model_id`, `event_id`, `source`, `to_status`) that are None narrow nothing. A rare source or status is
    looked for in all changes: the transaction has a time limit.
    """
    return queries.newest(connection, "model_changes", limit, before, **facts)
