"""Steps of revisions on tables that older code reads and writes meanwhile: `alembic/versions` calls it.

On a new schema, which is not in use yet, the same calls are the plain statements.

Why: `docs/decisions/0023-migrations-beside-readers.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from alembic import op
from sqlalchemy import text

from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext


class MigrationLimits(NamedTuple):
    """How long a migration may be in the way of older code.

    Attributes:
        lock: seconds that it waits for the locks of a revision; sessions behind it wait no longer.
        statement: seconds for each statement in a transaction; it may hold locks for that long.
    """

    lock: float = 2.0
    statement: float = 30.0

    @property
    def sql(self) -> str:
        """Sets them for the transaction that runs."""
        return f"SET LOCAL lock_timeout = '{_ms(self.lock)}'; SET LOCAL statement_timeout = '{_ms(self.statement)}'"


def lock(*tables: str) -> None:
    """Take the locks under which this revision changes tables, before it changes anything.

    A transaction that changed one table and waits for another blocks every session that needs the first. Here all locks
    are taken within the limit, or none is and the revision is tried again.

    Args:
        *tables: names of all tables that the revision alters or refers to by a foreign key, in the order in which the
            code that serves writes them: so the two wait for each other without a deadlock.
    """
    limits = _limits(op.get_context())
    if limits is None:
        return
    op.execute(limits._replace(lock=limits.lock / len(tables)).sql)
    op.execute(f"LOCK TABLE {', '.join(f'{SCHEMA}.{table}' for table in tables)} IN ACCESS EXCLUSIVE MODE")


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Make an index on a table that was there before this revision; its readers and writers go on meanwhile.

    It cannot be part of a transaction: it commits what came before, and is still there when the revision fails later.
    So it comes before everything else in its revision, which then may be run again.

    Args:
        name: of the index.
        table: its table.
        columns: names or expressions.
        **options: of Alembic's `op.create_index`.
    """
    context = op.get_context()
    if _limits(context) is None:
        op.create_index(name, table, columns, schema=SCHEMA, **options)
        return
    with context.autocommit_block():
        if not context.as_sql and _is_valid(name):
            return
        # An index whose build was broken off costs every write, and no query uses it.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
        op.create_index(name, table, columns, schema=SCHEMA, postgresql_concurrently=True, **options)


def _is_valid(name: str) -> bool:
    statement = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool(op.get_bind().execute(statement, {"name": f"{SCHEMA}.{name}"}).scalar())


def _limits(context: MigrationContext) -> MigrationLimits | None:
    limits: MigrationLimits | None = context.opts["limits"]
    return limits


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
