"""Servers for tests: one Postgres cluster is made a run, with the newest schema in a template; servers are copies."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from service.config import force_wheels
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers.process import Server

TEMPLATE = "migrated_template"
STRATEGIES_SINCE = 15
SCRAM_ITERATIONS_SINCE = 16
REDIS_DATABASES = 512
DROP_ATTEMPTS = 5
# Where the test processes of one run find what they share; the first process makes the folder and removes it.
SHARED = "HEADSHOT_MIRROR_TESTS_SHARED"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed with all that is in it."""
    path = Path(tempfile.mkdtemp(prefix="hm-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def new_postgres(folder: Path, *, migrated: bool = False, durable: bool = False) -> Postgres:
    """Start a Postgres in a new folder, from a copy of a cluster of this run, which is quicker than to make one.

    Args:
        folder: is not there yet.
        migrated: its database has the newest schema, and so has the database `TEMPLATE`.
        durable: it is no `QuickPostgres`.
    """
    shutil.copytree(_cluster(migrated=migrated), folder)
    return (Postgres if durable else QuickPostgres).start(folder, force_wheels=force_wheels())


def crash(server: Server) -> None:
    """End a server as a crash would (SIGKILL); nothing happens when it is not running."""
    if server.pid is not None:
        os.kill(server.pid, signal.SIGKILL)
    server.stop()


class QuickPostgres(Postgres):
    """A crash of the whole machine may lose its data; a crash of the server alone loses nothing."""

    def _initdb_options(self) -> list[str]:
        return [*super()._initdb_options(), "--no-sync"]

    def _command(self) -> list[str]:
        quick = ("fsync=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum_naptime=1h")
        return [*super()._command(), *(word for setting in quick for word in ("-c", setting))]


class ManyDatabases(Valkey):
    """A Valkey with a database for each of many tests."""

    def _command(self) -> list[str]:
        command = super()._command()
        config = Path(command[-1])
        config.write_text(f"{config.read_text()}databases {REDIS_DATABASES}\n")
        return command


@contextmanager
def new_database(server: Postgres, template: str = TEMPLATE) -> Iterator[str]:
    """The URL of a new database, with the newest schema by default; the server is one of `new_postgres`."""
    name = f"test_{uuid.uuid4().hex}"
    with admin(server) as connection:
        create_database(server, connection, name, template)
    try:
        yield server.url_of(name)
    finally:
        with admin(server) as connection:
            drop_database(connection, name)


def create_database(server: Postgres, connection: psycopg.Connection, name: str, template: str) -> None:
    """Make a database."""
    # By default every page would be read and logged, at five times the cost.
    strategy = "strategy file_copy" if server.binary.major >= STRATEGIES_SINCE else ""
    connection.execute(f"create database {name} template {template} {strategy}".encode())


def drop_database(connection: psycopg.Connection, name: str) -> None:
    """Remove a database, in use or not."""
    for attempt in range(DROP_ATTEMPTS):
        try:
            connection.execute(f"drop database {name} with (force)".encode())
        except psycopg.errors.ObjectInUse:
            # Postgres waits five seconds for the sessions that it ends; on a busy machine one needs longer.
            if attempt + 1 == DROP_ATTEMPTS:
                raise
        else:
            return


@contextmanager
def admin(server: Postgres) -> Iterator[psycopg.Connection]:
    """A connection that may make databases."""
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        yield connection


def share_folder(place: Path | None = None) -> Path:
    """The folder that the test processes of this run share; children inherit it, and the first process removes it.

    Args:
        place: where the first process makes it.
    """
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="hm-run-", dir=place)
        atexit.register(shutil.rmtree, os.environ[SHARED], ignore_errors=True)
    return Path(os.environ[SHARED])


def _cluster(*, migrated: bool) -> Path:
    """The folder of a cluster that does not run; made by the first test process that needs it."""
    shared = share_folder()
    place = shared / ("migrated" if migrated else "empty")
    half = place.with_suffix(".half")
    with (shared / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            if migrated:
                shutil.copytree(_cluster(migrated=False), half)
            with QuickPostgres.start(half, force_wheels=force_wheels()) as server:
                _make_logins_cheap(server)
                if migrated:
                    _give_schema(server)
            # Copies would all try the port of the first one.
            (half / "port").unlink()
            half.rename(place)
    return place


def _make_logins_cheap(server: Postgres) -> None:
    """Tests log in thousands of times: each would compute 4096 hashes on both sides."""
    if server.binary.major >= SCRAM_ITERATIONS_SINCE:
        with admin(server) as connection:
            connection.execute("set scram_iterations = 1")
            password = psycopg.sql.Literal(server.folder.password)
            connection.execute(psycopg.sql.SQL("alter role current_user password {}").format(password))


def _give_schema(server: Postgres) -> None:
    migrate(server.url)
    with admin(server) as connection:
        connection.execute(f"create database {TEMPLATE} template headshotpro")
