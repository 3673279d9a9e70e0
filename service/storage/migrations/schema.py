"""Migrations: bring the schema to the newest revision, print the way there, compare it with the code's tables.

Migrations only add (expand, then contract in a later release), so that the old code can serve while they run.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy import event, text

from service.errors import MirrorError
from service.storage import database, reader
from service.storage.migrations.expand import MigrationLimits
from service.storage.migrations.revision import known, location, newest, refuse_unreleased, revisions
from service.storage.migrations.waiting import MIGRATION_LOCK, migration_lock, report_index_builds, retry_while_locked
from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine

LIMITS = MigrationLimits()
# How long a migration waits in all, for its turn and then for locks that are in the way.
MAX_WAIT_SECONDS = 1800.0
# In timeouts of a lock: the pause between two tries, and the interval of reports of what it waits for.
PAUSE_LOCK_TIMEOUTS = 2
REPORT_LOCK_TIMEOUTS = 5

# A DBA may have made it: even `CREATE SCHEMA IF NOT EXISTS` wants the right to make schemas.
CREATE_SCHEMA = f"""
DO $$
BEGIN
    IF to_regnamespace('{SCHEMA}') IS NULL THEN
        CREATE SCHEMA {SCHEMA};
    END IF;
END
$$
"""


def _ignore_report(line: str) -> None:
    """The default: no report."""


def migrate(
    url: str,
    report: Callable[[str], None] = _ignore_report,
    limits: MigrationLimits = LIMITS,
    max_wait: float = MAX_WAIT_SECONDS,
    later: tuple[Path, ...] = (),
) -> str:
    """Bring the schema to the newest revision and let readers read it; a second migrator waits for the first.

    A new schema is made in one transaction. An older one goes from revision to revision, each in a transaction of its
    own, while older code serves.

    Args:
        url: `postgresql://` URL of the database.
        report: called with one line for each thing that was skipped, is waited for or is tried again.
        limits: how long it may hold up others.
        max_wait: seconds that it waits for other migrations, and as many again for locks that others hold.
        later: folders of revisions that come after this code's own.

    Returns:
        The revision that the schema has now; one of newer code is left as it is.

    Raises:
        MirrorError: the database has another encoding than UTF8.
        SchemaUnreleased: code from before the first release made the schema.
        PostgresUnavailable: Postgres cannot be reached, or another session held a lock to the end.
    """
    engine = _engine(url, limits)
    try:
        _refuse_other_encodings(engine)
        with migration_lock(engine, report, max_wait):
            with database.transaction(engine, None) as connection:
                found = known(connection)
                refuse_unreleased(found)
                if found is None:
                    create_all(connection, later)
            if found in revisions(later)[:-1]:
                _upgrade_beside_others(engine, report, limits, max_wait, later)
            elif found not in (None, newest(later)):
                # Newer code was here, and its release was rolled back: there is nothing to do.
                return found
            with database.transaction(engine, None) as connection:
                if skipped := reader.grant(connection):
                    report(skipped)
        return newest(later)
    finally:
        engine.dispose()


def _upgrade_beside_others(
    engine: Engine, report: Callable[[str], None], limits: MigrationLimits, max_wait: float, later: tuple[Path, ...]
) -> None:
    """Upgrade while older code serves: wait for locks in short tries, and report what is waited for."""
    with report_index_builds(engine, report, interval=REPORT_LOCK_TIMEOUTS * limits.lock):
        pause = PAUSE_LOCK_TIMEOUTS * limits.lock
        retry_while_locked(lambda: _upgrade(engine, limits, later), engine, report, max_wait, pause=pause)


def _engine(url: str, limits: MigrationLimits) -> Engine:
    """An engine for migrations: each of its transactions keeps to the limits, and to no snapshot."""
    engine = database.connect(url)

    @event.listens_for(engine, "begin")
    def set_limits(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        # Set for the session, it would stay behind in a pool's connection, for the next client.
        if driver is not None and not driver.autocommit:
            # A user with the same name as the schema has it in the search path.
            connection.exec_driver_sql(f"SET LOCAL search_path TO public; {limits.sql}")

    # Whatever the database has as its default: the transaction that holds the migration lock must not hold a snapshot.
    return engine.execution_options(isolation_level="READ COMMITTED")


def _refuse_other_encodings(engine: Engine) -> None:
    with database.transaction(engine, None) as connection:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise MirrorError(
            f"the database has the encoding {encoding}, in which many names cannot be stored: "
            "make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0` and name it in DATABASE_URL"
        )


def create_all(connection: Connection, later: tuple[Path, ...] = (), to: str = "head") -> None:
    """Make everything anew, in a transaction of the caller's, up to a revision."""
    connection.execute(text(CREATE_SCHEMA))
    config = _config(later)
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _upgrade(engine: Engine, limits: MigrationLimits, later: tuple[Path, ...]) -> None:
    """Go on from the revision that the schema has; Alembic begins and commits."""
    with database.translate_errors(engine), engine.connect() as connection:
        config = _config(later)
        config.attributes["connection"] = connection
        config.attributes["limits"] = limits
        command.upgrade(config, "head")


def script(since: str | None = None, later: tuple[Path, ...] = ()) -> str:
    """The SQL that brings a database to the newest revision, for a DBA to run with psql.

    Args:
        since: the revision that the schema has, one of `revisions`; None: the database is empty.
        later: folders of revisions that come after this code's own.
    """
    output = io.StringIO()
    config = _config(later, output)
    if since is None:
        command.upgrade(config, "head", sql=True)
    else:
        output.write(_START.format(lock=MIGRATION_LOCK, since=since))
        config.attributes["limits"] = LIMITS
        command.upgrade(config, f"{since}:head", sql=True)
    readers = "".join(f"{statement.strip()};\n\n" for statement in reader.script())
    return f"{output.getvalue()}\n-- Dashboards read as {reader.READER_ROLE}\n\n{readers}"


# The lock of the session ends with it.
_START = """\
-- For psql, on a direct connection: pieces of it run outside of transactions.
\\set ON_ERROR_STOP on
SET client_min_messages = warning;

DO $$
DECLARE
    found text := (SELECT version_num FROM headshotpro.alembic_version);
BEGIN
    IF found IS DISTINCT FROM '{since}' THEN
        RAISE EXCEPTION 'this goes on from revision {since}, the schema is at %: print it anew', found;
    END IF;
    IF NOT pg_try_advisory_lock({lock}) THEN
        RAISE EXCEPTION 'another migration is running';
    END IF;
END
$$;

"""


def compare(url: str) -> None:
    """Compare a migrated database with `tables`; what differs is printed and ends in Alembic's own error."""
    engine = _engine(url, LIMITS)
    with database.transaction(engine, None) as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.check(config)


def _config(later: tuple[Path, ...] = (), output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(location()))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, (location() / "versions", *later))))
    return config
