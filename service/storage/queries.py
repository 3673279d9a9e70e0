"""How statements are run: each takes SQL and the values of its parameters, and returns what its caller works with."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, CursorResult

# A statement is parsed for its parameters once.
_parsed = lru_cache(maxsize=512)(text)


def execute(connection: Connection, sql: str, **values: Any) -> CursorResult[*tuple[Any, ...]]:
    """The result as SQLAlchemy has it."""
    return connection.execute(_parsed(sql), values)


def rows(connection: Connection, sql: str, **values: Any) -> list[dict[str, Any]]:
    """The rows, as columns by name."""
    found = execute(connection, sql, **values)
    # A third of the time that SQLAlchemy's own mappings take.
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found.all()]


def row(connection: Connection, sql: str, **values: Any) -> dict[str, Any] | None:
    """The first row, as columns by name; None where there is none."""
    found = execute(connection, sql, **values).mappings().first()
    return dict(found) if found else None


def column(connection: Connection, sql: str, **values: Any) -> list[Any]:
    """The first column of each row."""
    return list(execute(connection, sql, **values).scalars())


def value(connection: Connection, sql: str, **values: Any) -> Any:
    """The first column of the first row; None where there is no row."""
    return execute(connection, sql, **values).scalar()


def run(connection: Connection, sql: str, **values: Any) -> int:
    """How many rows the statement wrote."""
    return execute(connection, sql, **values).rowcount


def where(conditions: Mapping[str, str], values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A condition for each value that is not None, together, and these values.

    Each is written only where it is needed: so the planner sees which index fits. Values without a condition are left
    out.
    """
    given = {name: value for name, value in values.items() if name in conditions and value is not None}
    return " AND ".join(conditions[name] for name in given) or "true", given


def newest(
    connection: Connection,
    table: str,
    limit: int,
    before: int | None = None,
    conditions: Mapping[str, str] | None = None,
    **values: Any,
) -> list[dict[str, Any]]:
    """The rows of a table with the greatest ids, the greatest first. Values that are None narrow nothing.

    Args:
        connection: a transaction.
        table: its name; it has ids that grow.
        limit: how many rows at most.
        before: those with smaller ids, for the next page.
        conditions: by what a value narrows the rows; without one, the column of its name equals it.
        **values: the values. Their names are put into the SQL: they come from code, and never from a request.
    """
    known = {**{name: f"{name} = :{name}" for name in values}, **(conditions or {}), "before": "id < :before"}
    wanted, given = where(known, {**values, "before": before})
    statement = f"SELECT * FROM headshotpro.{table} WHERE {wanted} ORDER BY id DESC LIMIT :limit"  # noqa: S608 - our words
    return rows(connection, statement, **given, limit=limit)
