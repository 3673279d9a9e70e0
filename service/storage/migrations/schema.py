"""Migrations: bring the schema to the newest revision, print the way there, compare it with the code's tables.

Migrations only add (expand, then contract in a later release), so that the old code can serve while they run.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from sqlalchemy import event, text

from service.errors import LockUnavailable, MirrorError
from service.storage import database, reader
from service.storage.migrations.revision import known, location, newest, revisions
from service.storage.tables import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

# How long a migration waits for one lock; sessions behind it wait no longer. How long one of its statements may take,
# holding such locks.
LOCK_SECONDS = 2.0
STATEMENT_SECONDS = 30.0
# A lock that could not be taken is tried again after a pause, in which the sessions behind it get through.
PAUSE_SECONDS = 4.0
MAX_WAIT_SECONDS = 1800.0

# Any constant; it only has to differ from other users of advisory locks in the same database.
MIGRATION_LOCK = 0x48534D49
# Without a parameter: the portal of a statement that has one keeps its snapshot to the end of the transaction, and the
# building of an index waits for all older snapshots. A statement that waits for the lock would hold one as well.
_TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")
# The transaction that holds the lock is idle for as long as the migration takes.
_DISABLE_IDLE_TIMEOUTS = text(
    """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
    """
)

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


def migrate(url: str, report: Callable[[str], object] = lambda _line: None) -> str:
    """Bring the schema to the newest revision and let readers read it; a second migrator waits for the first.

    It goes from revision to revision, each in a transaction of its own, while older code serves.

    Args:
        url: `postgresql://` URL of the database.
        report: called with one line for each thing that was skipped or is waited for.

    Returns:
        The revision that the schema has now; one of newer code is left as it is.

    Raises:
        MirrorError: the database has another encoding than UTF8.
        SchemaUnreleased: code from before the first release made the schema.
        PostgresUnavailable: Postgres cannot be reached, or another session held a lock to the end.
    """
    engine = _engine(url)
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    reported = ""
    try:
        while True:
            try:
                return _migrate(engine, report)
            except LockUnavailable as error:
                if time.monotonic() > deadline:
                    raise
                if (line := f"{error}. Trying again.") != reported:
                    report(reported := line)
            time.sleep(PAUSE_SECONDS)
    finally:
        engine.dispose()


def _migrate(engine: Engine, report: Callable[[str], object]) -> str:
    # The locks of a session do not survive transaction pooling, so a transaction holds the lock and does nothing else.
    with _transaction(engine) as holder:
        _refuse_other_encodings(holder)
        holder.execute(_DISABLE_IDLE_TIMEOUTS)
        if not holder.execute(_TRY_LOCK).scalar():
            raise LockUnavailable("Another migration is running")
        with _transaction(engine) as connection:
            found = known(connection)
            if found is None:
                connection.execute(text(CREATE_SCHEMA))
        if found is not None and found not in revisions():
            # Newer code was here, and its release was rolled back: there is nothing to do.
            return found
        upgrade(engine)
        with _transaction(engine) as connection:
            if skipped := reader.grant(connection):
                report(skipped)
    return newest()


def _transaction(engine: Engine) -> AbstractContextManager[Connection]:
    return database.transaction(engine, STATEMENT_SECONDS, LOCK_SECONDS)


def _refuse_other_encodings(connection: Connection) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise MirrorError(
            f"the database has the encoding {encoding}, in which many names cannot be stored: "
            "make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0` and name it in DATABASE_URL"
        )


def _engine(url: str) -> Engine:
    """An engine for migrations: each transaction that Alembic begins has their limits."""
    engine = database.connect(url)

    @event.listens_for(engine, "begin")
    def set_limits(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        # Set for the session, it would stay behind in a pool's connection, for the next client.
        if driver is not None and not driver.autocommit:
            # A user with the same name as the schema has it in the search path.
            connection.exec_driver_sql(
                f"SET LOCAL search_path TO public; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
                f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"
            )

    return engine


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Go on from the revision that the schema has to another; Alembic begins and commits.

    Raises:
        LockUnavailable: a lock was not to be had in time. Revisions before this one stay.
        PostgresUnavailable: Postgres cannot be reached.
    """
    alembic_engine = engine.execution_options(isolation_level="READ COMMITTED")
    with database.translate_errors(engine), alembic_engine.connect() as connection:
        command.upgrade(_config(connection=connection), revision)


def script(since: str | None = None) -> str:
    """The SQL that brings a database to the newest revision, for a DBA to run with psql.

    `since` is the revision that the schema has, one of `revisions`; None: the database is empty.
    """
    output = io.StringIO()
    output.write(_START)
    if since is None:
        output.write(f"{CREATE_SCHEMA.strip()};\n\n")
    else:
        output.write(_GO_ON.format(lock=MIGRATION_LOCK, since=since))
    command.upgrade(_config(output), f"{since}:head" if since else "head", sql=True)
    readers = "".join(f"{statement.strip()};\n\n" for statement in reader.script())
    return f"{output.getvalue()}\n-- Dashboards read as {reader.READER_ROLE}\n\n{readers}"


_START = f"""\
-- For psql, on a direct connection: pieces of it run outside of transactions.
\\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET lock_timeout = '{LOCK_SECONDS}s';

"""
# The lock of the session ends with it.
_GO_ON = """\
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
    with _transaction(_engine(url)) as connection:
        command.check(_config(connection=connection))


def _config(output: io.StringIO | None = None, **attributes: Any) -> Config:
    config = Config(output_buffer=output, attributes=attributes) if output else Config(attributes=attributes)
    config.set_main_option("script_location", str(location()))
    return config
