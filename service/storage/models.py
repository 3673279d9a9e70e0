"""`models` and `model_clocks`: lock, read and write many rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from service.model_fields import FIELDS
from service.storage import arrays, queries
from service.storage.tables import model_clocks, models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, CursorResult

    Row = Mapping[str, Any]

# The columns that observations fill; the rest (observed_at, updated_at, erased_at) is our own bookkeeping.
OBSERVED_COLUMNS = (*(field.column for field in FIELDS), "deleted_at")

# The columns that merges fill.
CLOCK_COLUMNS = tuple(
    column.name for column in model_clocks.columns if column.name not in {"model_id", "shown_at", "foreign_write_at"}
)
_READ_CLOCKS = ", ".join(("model_id", *CLOCK_COLUMNS))


def read_clocks(connection: Connection, ids: Sequence[str]) -> dict[str, Row]:
    """The clocks of models, without a lock; a model never seen gets empty ones."""
    statement = text(
        f"SELECT {_READ_CLOCKS} FROM headshotpro.model_clocks WHERE model_id = ANY({arrays.IDS_ARRAY})"  # noqa: S608
    )
    found = _by_key(connection.execute(statement, {"ids": arrays.encode(ids)}), "model_id")
    empty = dict.fromkeys(CLOCK_COLUMNS)
    return {model_id: found.get(model_id) or {"model_id": model_id, **empty} for model_id in ids}


# With their columns named, SQLAlchemy prepares for the results of a statement once, not each time.
_READ = text(
    f"SELECT {', '.join(models.columns.keys())} FROM headshotpro.models "  # noqa: S608 - names of our own columns
    f"WHERE id = ANY({arrays.IDS_ARRAY})"
).columns(*models.columns)


def read(connection: Connection, ids: Sequence[str]) -> dict[str, Row]:
    """The rows of those models that have one."""
    return _by_key(connection.execute(_READ, {"ids": arrays.encode(ids)}), "id")


def existing(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those of the models that have a row."""
    statement = f"SELECT id FROM headshotpro.models WHERE id = ANY({arrays.IDS_ARRAY})"  # noqa: S608 - constant
    return queries.column(connection, statement, ids=arrays.encode(ids))


def _by_key(found: CursorResult[Any], key: str) -> dict[str, Row]:
    """Rows as mappings, by one of their columns; a third of the time that SQLAlchemy's own mappings take."""
    names = tuple(found.keys())
    place = names.index(key)
    return {row[place]: dict(zip(names, row, strict=True)) for row in found.all()}


def after(connection: Connection, model_id: str, limit: int) -> list[Row]:
    """The next rows in id order."""
    statement = "SELECT * FROM headshotpro.models WHERE id > :id ORDER BY id LIMIT :limit"
    return [*queries.rows(connection, statement, id=model_id, limit=limit)]


def take_foreign_writes(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The models whose rows another program wrote since they were last compared with the upstream; they are forgotten.

    The transaction holds the models' clocks, and compares their rows. Rows that are read after this hold what was
    written, as the trigger `models_changed` noted it in one transaction.
    """
    statement = (
        "DELETE FROM headshotpro.foreign_writes "  # noqa: S608 - constant
        f"WHERE model_id = ANY({arrays.IDS_ARRAY}) RETURNING model_id"
    )
    return set(queries.column(connection, statement, ids=arrays.encode(ids)))


def details_to_read(connection: Connection, since: datetime, limit: int) -> list[str]:
    """Live models whose details were not read since an upstream time.

    Active ones that were never read come first, then the longest unread.
    """
    never_read = queries.column(connection, _NEVER_READ, limit=limit)
    if len(never_read) == limit:
        return never_read
    left = limit - len(never_read)
    return [*never_read, *queries.column(connection, _LONGEST_UNREAD, since=since, limit=left, but=never_read)]


def record_details_read(connection: Connection, model_id: str, at: datetime) -> None:
    """Note that a single GET sent at an upstream time got a response, whatever its fields."""
    statement = "UPDATE headshotpro.model_clocks SET detail_at = greatest(detail_at, :at) WHERE model_id = :id"
    queries.run(connection, statement, id=model_id, at=at)


_NEVER_READ = """
    SELECT m.id FROM headshotpro.model_clocks AS c JOIN headshotpro.models AS m ON m.id = c.model_id
    WHERE c.detail_at IS NULL AND m.status = 'active' LIMIT :limit
"""
_LONGEST_UNREAD = """
    SELECT m.id FROM headshotpro.model_clocks AS c JOIN headshotpro.models AS m ON m.id = c.model_id
    WHERE (c.detail_at IS NULL OR c.detail_at < :since)
        AND m.status IS DISTINCT FROM 'deleted' AND NOT m.id = ANY(CAST(:but AS text[]))
    ORDER BY c.detail_at NULLS FIRST LIMIT :limit
"""


# The columns that a merge writes.
WRITTEN = arrays.column_types(models, ("id", *OBSERVED_COLUMNS, "observed_at"))
CLOCK_TYPES = arrays.column_types(model_clocks, ("model_id", *CLOCK_COLUMNS))


def statuses_of_none(connection: Connection, statuses: Sequence[str]) -> list[str]:
    """Those of some statuses that no model has."""
    statement = (
        "SELECT name FROM unnest(CAST(:statuses AS text[])) AS given (name) "
        "WHERE NOT EXISTS (SELECT FROM headshotpro.models WHERE status = name)"
    )
    return queries.column(connection, statement, statuses=list(statuses))
