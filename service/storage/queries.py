"""How statements are run: each takes SQL and the values of its parameters, and returns what its caller works with."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
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
