"""A transaction that sends its statements ahead: what fails in it is told, the first error first; nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from service.errors import StorageUnavailable
from service.storage import database
from service.storage.database import UNREAD, pipeline
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

WRITE = text("insert into headshotpro.model_clocks (model_id) values (:id)")
FAIL = text("select 1 / 0")
READ = text("select count(*) from headshotpro.model_clocks")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = database.connect(database_url)
    yield opened
    opened.dispose()


def clocks(engine: Engine) -> int:
    with pipeline(engine) as connection:
        return int(connection.execute(READ).scalar_one())


def end_session(connection: Connection, url: str) -> None:
    """Postgres ends the session, and has done so when this returns."""
    session = connection.execute(text("select pg_backend_pid()")).scalar_one()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [session])


def write_in_a_session_that_ends(engine: Engine, url: str, then: str) -> None:
    with pipeline(engine) as connection:
        connection.execute(WRITE, {"id": "a"}, execution_options=UNREAD)
        end_session(connection, url)
        if then != "commit":
            connection.execute(READ, execution_options=UNREAD if then == "write" else {})


@pytest.mark.parametrize("then", ["read", "write", "commit"])
def test_a_session_that_is_ended_is_storage_that_is_gone(engine: Engine, database_url: str, then: str) -> None:
    with pytest.raises(StorageUnavailable):
        write_in_a_session_that_ends(engine, database_url, then)
    assert clocks(engine) == 0


def test_who_stands_still_after_what_nobody_reads_loses_what_it_holds(engine: Engine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as other, pytest.raises(StorageUnavailable):
        stand_still(engine, other)
    assert clocks(engine) == 0


def stand_still(engine: Engine, other: psycopg.Connection[Any]) -> None:
    """Write, and say no more until Postgres has ended the session."""
    with pipeline(engine) as connection:
        driver: Any = connection.connection.driver_connection
        # What takes `IDLE_SECONDS` else.
        connection.execute(text("set local idle_in_transaction_session_timeout = '100ms'"), execution_options=UNREAD)
        connection.execute(WRITE, {"id": "a"}, execution_options=UNREAD)
        query = "select 1 from pg_stat_activity where pid = %s"
        assert eventually(lambda: not other.execute(query, [driver.info.backend_pid]).fetchone())


def fail_between_writes(engine: Engine, *, read: bool) -> None:
    with pipeline(engine) as connection:
        connection.execute(WRITE, {"id": "a"}, execution_options=UNREAD)
        connection.execute(FAIL, execution_options=UNREAD)
        for model_id in "bcd":
            connection.execute(WRITE, {"id": model_id}, execution_options=UNREAD)
        if read:
            connection.execute(READ)


@pytest.mark.parametrize("read", [True, False])
def test_the_first_error_is_told_and_nothing_is_kept(engine: Engine, *, read: bool) -> None:
    with pytest.raises(DataError, match="division"):
        fail_between_writes(engine, read=read)
    assert clocks(engine) == 0


def test_what_was_sent_is_there_for_who_reads_after_it(engine: Engine) -> None:
    with pipeline(engine) as connection:
        connection.execute(WRITE, {"id": "a"}, execution_options=UNREAD)
        assert connection.execute(READ).scalar_one() == 1
    assert clocks(engine) == 1
