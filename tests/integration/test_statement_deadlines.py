"""A statement that gets no response ends in time, from the first of a connection on, and with it nothing else."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import event, text

from service.errors import PostgresUnavailable
from service.storage import database, statement_deadlines
from service.storage.database import transaction
from service.storage.statement_deadlines import CHECK_SECONDS, StatementDeadline
from tests.support.processes import eventually
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from service.local.servers import Postgres

LIMIT = 0.2
# Two rounds of the thread that looks for late statements.
LATE_SECONDS = 2 * CHECK_SECONDS + LIMIT
NO_RESPONSE = "no response to a statement within"


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_deadlines, "GRACE_SECONDS", 0.1)


@pytest.fixture
def line(postgres: Postgres) -> Iterator[TcpProxy]:
    """What leads to Postgres, and can be cut."""
    with TcpProxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def engine(postgres: Postgres, line: TcpProxy, database_url: str) -> Iterator[Engine]:
    made = database.connect(database_url.replace(f":{postgres.port}/", f":{line.port}/"))
    yield made
    line.heal()
    made.dispose()


@contextmanager
def hanging_pooler() -> Iterator[tuple[str, list[socket.socket]]]:
    """The URL of a pooler that takes connections while its server hangs, and the connections."""
    taken: list[socket.socket] = []

    def message(kind: bytes, content: bytes = b"") -> bytes:
        return kind + struct.pack("!I", len(content) + 4) + content

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            taken.append(client)
            client.recv(65536)
            greeting = [
                message(b"R", struct.pack("!I", 0)),
                message(b"S", b"client_encoding\0UTF8\0"),
                message(b"Z", b"I"),
            ]
            client.sendall(b"".join(greeting))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        yield f"postgresql://somebody@127.0.0.1:{port}/mirror?sslmode=disable&gssencmode=disable", taken
        listener.shutdown(socket.SHUT_RDWR)
        for one in taken:
            one.close()


def failure(work: Callable[[], object]) -> PostgresUnavailable:
    """How work failed, and in time."""
    failures: list[PostgresUnavailable] = []

    def run() -> None:
        try:
            work()
        except PostgresUnavailable as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert eventually(lambda: not thread.is_alive())
    return failures[0]


def test_first_statement_of_a_first_connection_ends_in_time() -> None:
    with hanging_pooler() as (url, taken):
        engine = database.connect(url)

        def begin() -> None:
            with transaction(engine, LIMIT):
                pass

        assert NO_RESPONSE in str(failure(begin))
        assert NO_RESPONSE in str(failure(begin))
        # Each was given up once: to begin anew would double the wait.
        assert len(taken) == 2


def in_first(connection: Connection, line: TcpProxy) -> None:
    line.cut()
    connection.execute(text("select 1"))


def in_later(connection: Connection, line: TcpProxy) -> None:
    connection.execute(text("select 1"))
    in_first(connection, line)


def in_commit(connection: Connection, line: TcpProxy) -> None:
    connection.execute(text("select 1"))
    line.cut()


@pytest.mark.parametrize("work", [in_first, in_later, in_commit])
def test_statement_without_a_response_ends_in_time(
    engine: Engine, line: TcpProxy, work: Callable[[Connection, TcpProxy], None]
) -> None:
    def run() -> None:
        with transaction(engine, LIMIT) as connection:
            work(connection, line)

    assert NO_RESPONSE in str(failure(run))
    line.heal()
    with transaction(engine) as connection:
        assert connection.execute(text("select 1")).scalar_one() == 1


def test_connection_that_replaced_a_broken_one_has_the_deadline(engine: Engine, line: TcpProxy) -> None:
    with transaction(engine) as connection:
        broken = connection.execute(text("select pg_backend_pid()")).scalar_one()
    with psycopg.connect(engine.url.render_as_string(hide_password=False).replace("+psycopg", "")) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [broken])

    def run() -> None:
        with transaction(engine, LIMIT) as connection:
            in_first(connection, line)

    assert NO_RESPONSE in str(failure(run))


def test_begin_without_a_response_is_given_up_once(engine: Engine, line: TcpProxy) -> None:
    with transaction(engine):
        pass
    line.cut()
    attempts: list[object] = []
    event.listen(engine, "do_connect", lambda *given: attempts.append(given))

    def begin() -> None:
        with transaction(engine, LIMIT):
            pass

    assert NO_RESPONSE in str(failure(begin))
    assert attempts == [], "a new connection would double the wait"


def test_transaction_may_be_idle_longer_than_a_statement_may_take(engine: Engine) -> None:
    with transaction(engine, LIMIT) as connection:
        connection.execute(text("select 1"))
        time.sleep(LATE_SECONDS)
        assert connection.execute(text("select 1")).scalar_one() == 1


def test_many_short_statements_may_take_longer_than_one_may(engine: Engine) -> None:
    with transaction(engine, LIMIT) as connection:
        until = time.monotonic() + LATE_SECONDS
        while time.monotonic() < until:
            connection.execute(text("select pg_sleep(0.05)"))


def test_process_without_free_descriptors_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction(engine):
        pass

    def refuse(_number: int) -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(statement_deadlines.os, "dup", refuse)
    with transaction(engine) as connection:
        assert connection.execute(text("select 1")).scalar_one() == 1


def test_one_thread_watches_however_many_begin_at_once(engine: Engine) -> None:
    together = threading.Barrier(4)

    def begin() -> None:
        together.wait()
        with transaction(engine):
            pass

    statement_deadlines._unwatched[:] = [True]
    before = set(threading.enumerate())
    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new = [one for one in set(threading.enumerate()) - before if one.name == "statement-deadlines"]
    assert len(new) == 1


def test_thread_that_cannot_start_is_tried_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with transaction(engine):
        pass
    monkeypatch.setattr(statement_deadlines, "_unwatched", [True])

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with transaction(engine):
            pass
    assert statement_deadlines._unwatched == [True]
    with transaction(engine):
        pass
    assert statement_deadlines._unwatched == []


def test_child_ends_no_connection_of_its_parent(engine: Engine) -> None:
    with transaction(engine) as connection:
        with StatementDeadline(LIMIT) as deadline:
            deadline.begin(connection.connection.driver_connection)
            child = os.fork()
            if not child:
                # It ends a late statement of its own.
                own, other = socket.socketpair()
                with StatementDeadline(LIMIT) as inner:
                    inner.begin(own)
                    other.settimeout(30)
                    os._exit(other.recv(1) != b"")
            deadline.end()
        assert os.waitpid(child, 0)[1] == 0
        assert connection.execute(text("select 1")).scalar_one() == 1
