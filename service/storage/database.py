"""Connections: one engine for each process, transactions whose failures become `MirrorError`s.

Why: `docs/decisions/0014-plain-transactions.md`.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import LockUnavailable, PostgresUnavailable, SchemaOutdated, SettingsError, StatementTimeout
from service.storage import statement_deadlines
from service.storage.statement_deadlines import StatementDeadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import SQLAlchemyError

# A dead server is detected within seconds, even where the network swallows every packet.
CONNECT_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
    # Prepared statements do not survive transaction pooling (pgbouncer).
    "prepare_threshold": None,
    "application_name": "headshot-mirror",
    # For what SQLAlchemy itself asks when it connects; `SETTINGS` has it for our own transactions.
    "client_encoding": "utf8",
}

# The locks of a process that was cut off or stopped in mid-transaction (rows, the feed's, those of a pull's kind)
# is free again after this. No process here pauses that long between two statements.
IDLE_SECONDS = 10
# How long a statement may take: one that finds its rows by their keys, or that a person waits for.
STATEMENT_SECONDS = 30.0
# One in the background that may read a whole table; shorter than a worker's child may be silent.
WHOLE_TABLE_SECONDS = 60.0
# A statement about one row that another writer or a person's trigger may hold up, while other rows wait for their turn.
ONE_ROW_SECONDS = 3.0
ONE_ROW_LOCK_SECONDS = 0.5
# How long a statement waits for a lock; less, so that the error shows which of the two it was.
LOCK_SECONDS = 10.0

SETTINGS = {
    # A server that got half of a statement before the line was cut waits for the rest, and does not call that idle:
    # its own probes find out after 15 s that the client is unavailable.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    # psycopg reads times and intervals in these forms only, and in a zone east or west of UTC Postgres shows the
    # upstream's 9999-12-31 in a year that Python does not know. A database, a role or an environment variable
    # (PGDATESTYLE) may set any of them to something else.
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # How Postgres reads our statements and their parameters.
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    # Our statements name their schema; what else they name is Postgres' own.
    "search_path": "pg_catalog",
    # A row of `models` that is written without this was written by another program: a trigger notes it.
    "headshotpro.writer": "headshot-mirror",
}
# Under another level than the first our statements would fail wherever two transactions meet. The second sees one
# moment in all of its statements, and writes nothing.
READ_COMMITTED = "READ COMMITTED"
ONE_SNAPSHOT = "REPEATABLE READ READ ONLY"
# Where nothing has been analyzed yet the planner takes tables for small, and would read all of one for a few rows.
KEY_LOOKUP_SETTINGS = {"enable_seqscan": "off"}

# Class 54 of Postgres' error codes: the data itself is too large, and will be next time.
LIMIT_EXCEEDED = "54"
# A lock that was not to be had in time, or only by waiting for each other.
LOCKED = ("55P03", "40P01")
# A statement took longer than its limit, or a person ended it.
CANCELED = "57014"
# The role may not do this: no event's fault, and a person can grant it.
FORBIDDEN = "42501"
# Class 25: the session's transaction was ended for it, or the server takes no writes.
TRANSACTION_STATE = "25"
READ_ONLY = "25006"
# A schema, table, column or function that the code knows and the database does not.
UNDEFINED = ("3F000", "42P01", "42703", "42883")


# libpq checks the values of most options when it begins to connect, and says so in these words.
_REFUSED_BY_LIBPQ = (b"invalid ", b"weak ", b"definition of service ")


def connect(
    url: str, *, pool_size: int = 5, overflow: int = 10, pool_timeout: float = 10, connect_timeout: int = 5
) -> Engine:
    """An engine for `url` (`postgresql://…`); nothing is connected yet.

    `pool_size` connections are kept, `overflow` more are closed after use. Where all are in use, one is waited for
    `pool_timeout` seconds; a server that does not respond counts as unavailable after `connect_timeout`.

    Raises:
        SettingsError: libpq does not understand the URL, or one of its options or of their values.
    """
    try:
        engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1),
            connect_args={**CONNECT_OPTIONS, "connect_timeout": connect_timeout},
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=pool_timeout,
            # `transaction` begins and ends its own.
            isolation_level="AUTOCOMMIT",
            # The values of a statement that fails are people's names and addresses: they belong into no log.
            hide_parameters=True,
        )
        # Options of other clients, such as `pgbouncer=true`, would fail at each connection.
        for option in engine.url.query:
            make_conninfo(**{option: ""})
        _check_values(engine.url.query)
        statement_deadlines.watch(engine)
    except ArgumentError:
        raise SettingsError("DATABASE_URL is malformed: it is no URL of a database") from None
    except psycopg.ProgrammingError:
        raise SettingsError(f"DATABASE_URL is malformed: Postgres knows no option {option}") from None
    return engine


def _check_values(options: Mapping[str, str | tuple[str, ...]]) -> None:
    """Check values: libpq checks them at each connection, so a process would wait without end."""
    given = {name: value if isinstance(value, str) else ",".join(value) for name, value in options.items()}
    wrong = [] if given.get("keepalives", "1").isdigit() else ["keepalives"]
    if _is_refused(given):
        if _is_refused({}):
            # libpq takes from there what the URL does not say.
            raise SettingsError(
                "a variable PG… of the environment, such as PGSSLMODE, has a value Postgres does not know"
            )
        # Those that are wrong alone; others do not fit together.
        wrong += [name for name, value in given.items() if _is_refused({name: value})] or ["one of its options"]
    if wrong:
        raise SettingsError(f"DATABASE_URL is malformed: Postgres knows no such value of {wrong[0]}")


def _is_refused(options: Mapping[str, str]) -> bool:
    # No server is asked: there is no such socket.
    conninfo = make_conninfo(**{**options, "host": "/nonexistent", "hostaddr": ""})
    return PGconn.connect_start(conninfo.encode()).error_message.startswith(_REFUSED_BY_LIBPQ)


def on_statement_executed(engine: Engine, call: Callable[[], None]) -> None:
    """Call something after each statement that an engine has executed, in the thread that executed it."""
    event.listen(engine, "after_cursor_execute", lambda *_arguments: call())


@contextmanager
def transaction(
    engine: Engine,
    seconds: float = STATEMENT_SECONDS,
    lock_seconds: float = LOCK_SECONDS,
    *,
    by_key: bool = False,
    isolation: str = READ_COMMITTED,
) -> Iterator[Connection]:
    """A transaction that commits when the block ends and rolls back when it raises.

    Args:
        engine: where.
        seconds: how long each of its statements may take.
        lock_seconds: how long a statement may wait for a lock.
        by_key: its statements find rows by their keys; the planner may not prefer to read whole tables.
        isolation: `READ_COMMITTED` or `ONE_SNAPSHOT`.

    Raises:
        PostgresUnavailable: Postgres cannot be reached, is going down, takes no writes, or broke the transaction off (a
            deadlock, a timeout): the same work may succeed later.
        SchemaOutdated: the database lacks a table or column that this code knows.
    """
    begin = _begin(seconds, lock_seconds, by_key, isolation)
    with translate_errors(engine), StatementDeadline(seconds) as deadline, engine.connect() as connection:
        connection.execution_options(**{statement_deadlines.OPTION: deadline})
        try:
            connection.exec_driver_sql(begin, execution_options=_SEVERAL_STATEMENTS)
        except DBAPIError as error:
            if not error.connection_invalidated or deadline.gave_up:
                raise
            # It broke while it was idle, as all do at a restart of the server: the pool connects anew.
            deadline.end()
            connection.rollback()
            connection.exec_driver_sql(begin, execution_options=_SEVERAL_STATEMENTS)
        try:
            yield connection
        finally:
            # The commit, or the rollback at the end of the connection.
            deadline.begin()
        connection.commit()


# psycopg sends them in one trip where no parameters come with them, not even none.
_SEVERAL_STATEMENTS = {"no_parameters": True}


def require_writes(connection: Connection) -> None:
    """Find out whether a transaction may write, without a write.

    Raises:
        PostgresUnavailable: it may not. Connections are made anew: another server may be the primary by now.
    """
    if connection.execute(text("SELECT current_setting('transaction_read_only')")).scalar_one() == "on":
        connection.engine.dispose()
        raise PostgresUnavailable(
            "it takes no writes: it is a standby, or default_transaction_read_only is on, as some providers set it "
            "where the disk is full"
        )


@cache
def _begin(seconds: float, lock_seconds: float, by_key: bool, isolation: str) -> str:
    """Statements that begin a transaction with its settings.

    Not for the session: behind a pooler the next transaction on this connection may be a stranger's.
    """
    settings = {
        **SETTINGS,
        **(KEY_LOOKUP_SETTINGS if by_key else {}),
        "statement_timeout": _milliseconds(seconds),
        "lock_timeout": _milliseconds(lock_seconds),
    }
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"BEGIN ISOLATION LEVEL {isolation}; SELECT {calls}"


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


@contextmanager
def translate_errors(engine: Engine) -> Iterator[None]:
    """Turn what SQLAlchemy raises while it uses an engine into the errors that `transaction` names."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        if _sqlstate(error).startswith(LIMIT_EXCEEDED):
            raise
        if _sqlstate(error) == CANCELED:
            raise StatementTimeout(
                "Postgres ended a statement that took longer than its limit: it is overloaded, or a person ended it"
            ) from error
        locked = _sqlstate(error) in LOCKED
        unavailable = LockUnavailable if locked else PostgresUnavailable
        what = "another transaction holds a lock" if locked else "Postgres cannot be reached or gave up"
        raise unavailable(f"{what}: {_first_line(cause)}") from error
    except InternalError as error:
        if not _sqlstate(error).startswith(TRANSACTION_STATE):
            raise
        if _sqlstate(error) == READ_ONLY:
            # A server that was demoted keeps its clients; who is the primary now, only a new connection finds out.
            engine.dispose()
        raise PostgresUnavailable(f"Postgres takes no writes or gave up: {_first_line(error.orig)}") from error
    except ProgrammingError as error:
        if _sqlstate(error) == FORBIDDEN:
            raise PostgresUnavailable(
                f"the role of DATABASE_URL lacks a privilege: {_first_line(error.orig)}"
            ) from error
        if _sqlstate(error) in UNDEFINED:
            raise SchemaOutdated(f"the schema is older than this code: {SchemaOutdated.action}") from error
        raise


def _sqlstate(error: SQLAlchemyError) -> str:
    """Postgres' code of an error; empty where it was none of Postgres'."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _first_line(error: BaseException | None) -> str:
    """Messages of libpq name host and port, never the password; later lines repeat the first."""
    if isinstance(error, PoolTimeout):
        return "every connection of this process waits for it"
    return str(error).strip().partition("\n")[0] or type(error).__name__


ResultT = TypeVar("ResultT")


class BackgroundCall(Generic[ResultT]):
    """A call of a server in a thread of its own, from now on.

    No timeout of libpq ends a statement that a stopped server has taken; the pool bounds how many hang so.
    """

    def __init__(self, call: Callable[[], ResultT]) -> None:
        self._call = call
        self._future: Future[ResultT] = Future()
        threading.Thread(target=self._work, daemon=True).start()

    def result(self, seconds: float) -> ResultT:
        """The result or error of `call`, when it does so in time; else it goes on alone, and its result is lost.

        Raises:
            PostgresUnavailable: no result in time.
        """
        try:
            return self._future.result(seconds)
        except TimeoutError:
            raise PostgresUnavailable(f"no response in {seconds:.0f} s") from None

    def _work(self) -> None:
        try:
            self._future.set_result(self._call())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            self._future.set_exception(error)
