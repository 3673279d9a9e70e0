"""Steps of revisions on tables that older code reads and writes meanwhile: `alembic/versions` calls it.

Why: `docs/decisions/0023-migrations-beside-readers.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import op

from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence


def lock(*tables: str) -> None:
    """Take the locks under which this revision changes tables, before it changes anything.

    Args:
        *tables: names of all tables that the revision alters or refers to by a foreign key, in the order in which the
            code that serves writes them: so the two wait for each other without a deadlock.
    """
    op.execute(f"LOCK TABLE {', '.join(f'{SCHEMA}.{table}' for table in tables)} IN ACCESS EXCLUSIVE MODE")


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Make an index on a table that was there before this revision; its readers and writers go on meanwhile.

    It cannot be part of a transaction: it commits what came before, and is still there when the revision fails
    later. So it comes before everything else in its revision, which then may be run again. `options` are those of
    Alembic's `op.create_index`.
    """
    with op.get_context().autocommit_block():
        # An index whose build was broken off costs every write, and no query uses it.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}")
        op.create_index(name, table, columns, schema=SCHEMA, postgresql_concurrently=True, **options)
