"""The schema's revision: bring it to the newest, print the way there, compare it with the code's.

Migrations only add (expand, then contract in a later release), so that the old code can serve while they run.
One migrator works at a time, by an advisory lock; lock and statement time-outs keep it from stalling others.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

import service
from service.errors import SchemaOutdated
from service.storage import database, reader
from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

# Any constant of ours; it only has to differ from other users of advisory locks in the same database.
MIGRATION_LOCK = 0x48534D49


def _untold(line: str) -> None:
    """Stands in where nobody wants to know what was skipped."""


def migrate(url: str, tell: Callable[[str], None] = _untold) -> str:
    """Bring the schema to the newest revision and let readers read it; a second migrator waits for the first.

    Args:
        url: `postgresql://` URL of the database.
        tell: told in one line what was skipped.

    Returns:
        The revision that the schema has now; one of newer code is left as it is.

    Raises:
        StorageUnavailable: Postgres cannot be reached.
    """
    engine = database.connect(url)
    try:
        with database.transaction(engine) as connection:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text("SET LOCAL statement_timeout = '10min'"))
            _make_schema(connection)
            found = known(connection)
            if found is not None and found not in _revisions():
                # Newer code was here, and its release was rolled back: there is nothing to do.
                return found
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if skipped := reader.grant(connection):
                tell(skipped)
        return newest()
    finally:
        engine.dispose()


def _make_schema(connection: Connection) -> None:
    """Make the schema unless a DBA has: even `IF NOT EXISTS` wants the right to make schemas."""
    exists = connection.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar()
    if exists is None:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


def script() -> str:
    """The SQL that brings an empty database to the newest revision, for a DBA to run."""
    output = io.StringIO()
    command.upgrade(_config(output), "head", sql=True)
    readers = "".join(f"{statement.strip()};\n\n" for statement in reader.script())
    return f"{output.getvalue()}\n-- Dashboards read as {reader.ROLE}\n\n{readers}"


def newest() -> str:
    """The newest revision that this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "there is at least one migration"
    return head


def _revisions() -> set[str]:
    """Every revision that this code knows."""
    return {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}


def known(connection: Connection) -> str | None:
    """The database's revision; None where it was never migrated."""
    exists = connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.alembic_version"}).scalar()
    if exists is None:
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM headshotpro.alembic_version")).scalar()
    return found


def check(engine: Engine) -> str:
    """The database's revision, when this code can work with it.

    A revision that this code does not know belongs to newer code, whose migrations only add: it is fine.

    Raises:
        SchemaOutdated: it is older than the code.
        StorageUnavailable: Postgres cannot be reached.
    """
    with database.transaction(engine) as connection:
        found = known(connection)
    if found is None or found in _revisions() - {newest()}:
        raise SchemaOutdated(
            f"the schema is at revision {found or 'none'}, this code needs {newest()}: run `headshot-mirror migrate`"
        )
    return found


def compare(url: str) -> None:
    """Compare a migrated database with `tables`; what differs is printed and ends in Alembic's own error."""
    engine = database.connect(url)
    with database.transaction(engine) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.check(config)


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(_location()))
    return config


def _location() -> Path:
    """The migrations: inside the package where it was installed from a wheel, beside it in a checkout."""
    package = Path(service.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "alembic"
