"""Connections: one engine for each process, transactions whose failures are errors of ours."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import LockUnavailable, SchemaOutdated, SettingsError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Engine, TextClause
    from sqlalchemy.exc import SQLAlchemyError

# A server that is gone is noticed within seconds, even where the network swallows every packet.
CONNECT_OPTIONS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
    # Prepared statements do not survive transaction pooling (pgbouncer).
    "prepare_threshold": None,
    "application_name": "headshot-mirror",
}

# What a process that was cut off or stopped in mid-transaction holds (rows, the locks of the feed and of a pull's kind)
# is everybody's again after this. Nothing of ours thinks for so long between two statements.
IDLE_SECONDS = 10
# A server that got half of a statement before the line was cut waits for the rest, and does not call that idle: its own
# probes tell it after 15 s that nobody is there.
ALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
# In a zone east or west of UTC, Postgres shows the vendor's 9999-12-31 in a year that Python does not know.
SETTINGS = {**ALIVE, "TimeZone": "UTC", "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s"}
# Where nothing has been analyzed yet the planner takes tables for small, and would read all of one for a few rows; a
# statement that is prepared would go on so while it grows.
LOOK_UPS = {"enable_seqscan": "off"}
# A statement that the session does not know, or knows already: it was prepared in another client's.
PREPARED_ELSEWHERE = ("26000", "42P05")
# Marks a statement whose result nobody reads: in a pipeline it is not waited for.
UNREAD = {"unread": True}

# Class 54 of Postgres' error codes: the data itself is too large, and will be next time.
LIMIT_EXCEEDED = "54"
# A lock that was not to be had in time, or only by waiting for each other.
LOCKED = ("55P03", "40P01")
# Class 25: the session's transaction was ended for it, or the server takes no writes.
TRANSACTION_STATE = "25"
READ_ONLY = "25006"
# A schema, table, column or function that the code knows and the database does not.
UNDEFINED = ("3F000", "42P01", "42703", "42883")


def connect(
    url: str, *, pool_size: int = 5, overflow: int = 10, patience: float = 10, connect_timeout: int = 5
) -> Engine:
    """An engine for `url` (`postgresql://…`); nothing is connected yet.

    Args:
        url: of the database.
        pool_size: connections that are kept.
        overflow: connections beyond those, closed after use.
        patience: seconds to wait for a connection while all are in use.
        connect_timeout: seconds until a server that does not answer counts as gone.

    Raises:
        SettingsError: libpq does not understand the URL, or not one of its options.
    """
    try:
        engine = create_engine(
            url.replace("postgresql://", "postgresql+psycopg://", 1),
            connect_args={**CONNECT_OPTIONS, "connect_timeout": connect_timeout},
            pool_size=pool_size,
            max_overflow=overflow,
            pool_timeout=patience,
            pool_pre_ping=True,
            # The values of a statement that fails are people's names and addresses: they belong into no log.
            hide_parameters=True,
        )
        event.listen(engine, "after_cursor_execute", _end_statement)
        event.listen(engine, "rollback", _forget_results)
        # Options of other clients, such as `pgbouncer=true`, would fail at each connection.
        make_conninfo(**dict.fromkeys(engine.url.query, ""))
    except ArgumentError:
        raise SettingsError("DATABASE_URL is malformed: it is no URL of a database") from None
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"DATABASE_URL is malformed: {_first_line(error)}") from None
    return engine


def after_commit(engine: Engine, call: Callable[[], None]) -> None:
    """Call something after each transaction of an engine that is about to commit, in its own thread."""
    event.listen(engine, "commit", lambda _connection: call())


@contextmanager
def transaction(engine: Engine, seconds: float = 0) -> Iterator[Connection]:
    """A transaction that commits when the block ends and rolls back when it raises.

    Args:
        engine: where.
        seconds: how long each of its statements may take; 0: as long as the server allows.

    Raises:
        StorageUnavailable: Postgres cannot be reached, is going down, takes no writes, or broke the transaction off (a
            deadlock, a time-out): the same work may succeed later.
        SchemaOutdated: the database lacks a table or column that this code knows.
    """
    with errors_of_ours(engine), engine.begin() as connection:
        limit = {"statement_timeout": f"{round(seconds * 1000)}ms"} if seconds else {}
        connection.execute(_set({**SETTINGS, **limit}))
        yield connection


@contextmanager
def pipeline(engine: Engine) -> Iterator[Connection]:
    """A transaction for the same few statements again and again: they are prepared, and sent without waiting.

    Only a statement whose result is read waits for the server. One that is marked `UNREAD` may fail later than where it
    stands: at the next result that is read, or at the commit. Rows are looked up by their keys, and selected by the
    names of their columns: a prepared `SELECT *` fails once a migration has added one.

    Args:
        engine: where.

    Raises:
        StorageUnavailable: as `transaction` does.
        SchemaOutdated: as `transaction` does.
    """
    with errors_of_ours(engine), engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.prepare_threshold = 1 if _is_direct(connection) else None
        try:
            with driver.pipeline() as sent, connection.execution_options(pipeline=sent).begin():
                connection.execute(_set({**SETTINGS, **LOOK_UPS}), execution_options=UNREAD)
                yield connection
        except DBAPIError as error:
            if _sqlstate(error) not in PREPARED_ELSEWHERE:
                raise
            connection.info["direct"] = False
            raise StorageUnavailable(
                "a pooler is in between that was not known: the next try prepares nothing"
            ) from error
        finally:
            driver.prepare_threshold = None


def _is_direct(connection: Connection) -> bool:
    """Whether Postgres itself answers; a pooler gives each transaction a session where nothing of ours is prepared.

    A pooler gives its clients a number of its own where Postgres gives the session's process.
    """
    if "direct" not in connection.info:
        driver: Any = connection.connection.driver_connection
        connection.info["direct"] = connection.scalar(text("SELECT pg_backend_pid()")) == driver.info.backend_pid
        connection.rollback()
    return bool(connection.info["direct"])


def _set(settings: Mapping[str, str]) -> TextClause:
    """A statement that sets what Postgres calls so, for the transaction that it is in.

    Not for the session: behind a pooler the next transaction on this connection may be a stranger's.
    """
    return text("SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items()))


def _end_statement(_connection: Any, _cursor: Any, _sql: Any, _values: Any, context: Any, _many: bool) -> None:
    """In a pipeline, let a statement end on the server, too: what waits for a client's next words is idle only then.

    What is read is waited for: psycopg would do so when rows are fetched, SQLAlchemy looks for their columns before.
    """
    sent = context.execution_options.get("pipeline")
    if sent and context.execution_options.get("unread"):
        sent.pgconn.pipeline_sync()
        sent.result_queue.append(None)
    elif sent:
        sent.sync()


def _forget_results(connection: Connection) -> None:
    """What came after a statement that failed tells so, too; the first error is the one that counts."""
    sent = connection.get_execution_options().get("pipeline")
    # Of a connection that is lost there is nothing more to be had.
    while sent and sent.result_queue and sent.pgconn.status == ConnStatus.OK:
        with suppress(psycopg.Error):
            sent.sync()


@contextmanager
def errors_of_ours(engine: Engine) -> Iterator[None]:
    """Turn what SQLAlchemy raises while it uses an engine into the errors that `transaction` names."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        cause = getattr(error, "orig", None) or error
        if _sqlstate(error).startswith(LIMIT_EXCEEDED):
            raise
        unavailable = LockUnavailable if _sqlstate(error) in LOCKED else StorageUnavailable
        raise unavailable(f"Postgres cannot be reached or gave up: {_first_line(cause)}") from error
    except InternalError as error:
        if not _sqlstate(error).startswith(TRANSACTION_STATE):
            raise
        if _sqlstate(error) == READ_ONLY:
            # A server that was demoted keeps its clients; who is the primary now, only a new connection finds out.
            engine.dispose()
        raise StorageUnavailable(f"Postgres takes no writes or gave up: {_first_line(error.orig)}") from error
    except ProgrammingError as error:
        if _sqlstate(error) in UNDEFINED:
            raise SchemaOutdated("the schema is older than this code: run `headshot-mirror migrate`") from error
        raise


def _sqlstate(error: SQLAlchemyError) -> str:
    """Postgres' code of an error; empty where it was none of Postgres'."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _first_line(error: BaseException | None) -> str:
    """Messages of libpq name host and port, never the password; later lines repeat the first."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
