"""`models` and `model_clocks`: lock, read and write many rows at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from service.storage.tables import model_clocks, models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table

    Row = Mapping[str, Any]

# The columns that observations fill; the rest (observed_at, updated_at, erased_at) is our own bookkeeping.
OBSERVED = tuple(
    column.name for column in models.columns if column.name not in {"id", "observed_at", "updated_at", "erased_at"}
)


def lock_clocks(connection: Connection, ids: Sequence[str]) -> dict[str, Row]:
    """Lock the clocks of models until the transaction ends, in id order; a model never seen gets empty ones.

    The lock comes before anything else is read of the models: it is what makes concurrent merges take turns. Missing
    clocks are inserted, in id order too, before the first lock is taken: a batch that held locks already while it
    inserts could meet another one that does the same.
    """
    known = set(connection.execute(_KNOWN_CLOCKS, {"ids": list(ids)}).scalars())
    missing = sorted(set(ids) - known)
    if missing:
        connection.execute(_INSERT_CLOCKS, {"ids": missing})
    rows = connection.execute(_LOCK_CLOCKS, {"ids": list(ids)}).mappings()
    return {row["model_id"]: dict(row) for row in rows}


_KNOWN_CLOCKS = text("SELECT model_id FROM headshotpro.model_clocks WHERE model_id = ANY(CAST(:ids AS text[]))")
_INSERT_CLOCKS = text(
    "INSERT INTO headshotpro.model_clocks (model_id) SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING"
)
_LOCK_CLOCKS = text(
    "SELECT * FROM headshotpro.model_clocks WHERE model_id = ANY(CAST(:ids AS text[])) ORDER BY model_id FOR UPDATE"
)


def read(connection: Connection, ids: Sequence[str]) -> dict[str, Row]:
    """The rows of those models that have one."""
    statement = text("SELECT * FROM headshotpro.models WHERE id = ANY(CAST(:ids AS text[]))")
    return {row["id"]: dict(row) for row in connection.execute(statement, {"ids": list(ids)}).mappings()}


def after(connection: Connection, model_id: str, limit: int) -> list[Row]:
    """The next rows in id order."""
    statement = text("SELECT * FROM headshotpro.models WHERE id > :id ORDER BY id LIMIT :limit")
    rows = connection.execute(statement, {"id": model_id, "limit": limit}).mappings()
    return [dict(row) for row in rows]


def created_at(connection: Connection, model_id: str) -> datetime | None:
    """When a model was created, where that is known."""
    statement = text("SELECT created_at FROM headshotpro.models WHERE id = :id")
    found: datetime | None = connection.execute(statement, {"id": model_id}).scalar()
    return found


def details_to_read(connection: Connection, since: datetime, limit: int) -> list[str]:
    """Live models whose details were not read since an upstream time.

    Active ones that were never read come first, then the longest unread.
    """
    never_read = connection.execute(_NEVER_READ, {"limit": limit}).scalars().all()
    if len(never_read) == limit:
        return list(never_read)
    values = {"since": since, "limit": limit - len(never_read), "but": list(never_read)}
    return [*never_read, *connection.execute(_LONGEST_UNREAD, values).scalars()]


def details_read(connection: Connection, model_id: str, at: datetime) -> None:
    """Note that a single GET sent at an upstream time was answered, whatever it told."""
    statement = text("UPDATE headshotpro.model_clocks SET detail_at = greatest(detail_at, :at) WHERE model_id = :id")
    connection.execute(statement, {"id": model_id, "at": at})


_NEVER_READ = text(
    """
    SELECT m.id FROM headshotpro.model_clocks AS c JOIN headshotpro.models AS m ON m.id = c.model_id
    WHERE c.detail_at IS NULL AND m.status = 'active' LIMIT :limit
    """
)
_LONGEST_UNREAD = text(
    """
    SELECT m.id FROM headshotpro.model_clocks AS c JOIN headshotpro.models AS m ON m.id = c.model_id
    WHERE (c.detail_at IS NULL OR c.detail_at < :since)
        AND m.status IS DISTINCT FROM 'deleted' AND NOT m.id = ANY(CAST(:but AS text[]))
    ORDER BY c.detail_at NULLS FIRST LIMIT :limit
    """
)


def write(connection: Connection, rows: Mapping[str, Row], now: datetime) -> None:
    """Insert or replace rows; each holds every observed column and `observed_at`.

    Args:
        connection: the transaction that holds the clocks' locks.
        rows: model id to its row.
        now: our time of the write.
    """
    if not rows:
        return
    names = (*OBSERVED, "observed_at")
    sets = ", ".join(f"{name} = excluded.{name}" for name in (*names, "updated_at"))
    statement = (
        f"INSERT INTO headshotpro.models (id, {', '.join(names)}, updated_at) "  # noqa: S608 - names of our own columns
        f"SELECT *, CAST(:now AS timestamptz) FROM unnest({_arrays(models, ('id', *names))}) "
        f"ON CONFLICT (id) DO UPDATE SET {sets}"
    )
    connection.execute(text(statement), {**_columns(rows, "id", names), "now": now})


CLOCKS = tuple(column.name for column in model_clocks.columns if column.name != "model_id")


def write_clocks(connection: Connection, clocks: Mapping[str, Row]) -> None:
    """Replace the clocks of models whose locks this transaction holds."""
    if not clocks:
        return
    sets = ", ".join(f"{name} = new.{name}" for name in CLOCKS)
    names = ", ".join(("model_id", *CLOCKS))
    statement = (
        f"UPDATE headshotpro.model_clocks AS old SET {sets} "  # noqa: S608 - names of our own columns
        f"FROM unnest({_arrays(model_clocks, ('model_id', *CLOCKS))}) AS new({names}) WHERE old.model_id = new.model_id"
    )
    connection.execute(text(statement), _columns(clocks, "model_id", CLOCKS))


def _arrays(table: Table, names: Sequence[str]) -> str:
    return ", ".join(f"CAST(:{name} AS {_sql_type(table, name)}[])" for name in names)


def _sql_type(table: Table, name: str) -> str:
    column = table.columns[name]
    return {"DATETIME": "timestamptz", "TIMESTAMP": "timestamptz"}.get(str(column.type), str(column.type).lower())


def _columns(rows: Mapping[str, Row], key: str, names: Sequence[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {key: list(rows)}
    for name in names:
        values = [row[name] for row in rows.values()]
        columns[name] = [json.dumps(value) if isinstance(value, dict) else value for value in values]
    return columns
