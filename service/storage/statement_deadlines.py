"""An end for the wait of each statement, also where its server was stopped or its machine hangs.

The server's own limit ends nothing then, and no timeout of libpq does: the kernel of that machine still acknowledges
what it gets. So a thread of this process looks each second for statements that are late, and shuts their connections'
sockets down: they fail as they do where a connection breaks.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from service.errors import PostgresUnavailable

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

# So much later than the server itself a statement is given up: on a busy machine the server's error takes a while.
GRACE_SECONDS = 5.0
CHECK_SECONDS = 1.0
# The option of SQLAlchemy's connection that holds the deadline of its transaction.
OPTION = "headshotpro_deadline"

# No lock guards these: a greenlet of web that waited for one would stop its whole process.
_entered: set[StatementDeadline] = set()
# Holds one item until a thread watches. Of several threads that find it, one takes it.
_unwatched = [True]
_current: ContextVar[StatementDeadline | None] = ContextVar("statement_deadline", default=None)


class StatementDeadline:
    """The deadline of a transaction's statements, one after the other, while the block is entered.

    Attributes:
        gave_up: a statement was late, and its connection was ended.

    Args:
        seconds: the server's limit of each.
    """

    def __init__(self, seconds: float) -> None:
        self.gave_up = False
        self._seconds = seconds + GRACE_SECONDS
        self._at = math.inf
        self._connection: psycopg.Connection[Any] | None = None
        # A descriptor of our own: psycopg's number may be another socket's by the time that it is needed.
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        _entered.add(self)
        self._outer = _current.get()
        _current.set(self)
        with suppress(IndexError):
            _unwatched.pop()
            try:
                threading.Thread(target=_watch, name="statement-deadlines", daemon=True).start()
            except RuntimeError:
                # No more threads can be started: the next transaction tries again.
                _unwatched.append(True)
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self.end()
        _current.set(self._outer)
        _entered.discard(self)
        if self._socket:
            self._socket.close()
        if self.gave_up and isinstance(error, DBAPIError):
            raise PostgresUnavailable(f"no response to a statement within {self._seconds:.0f} s") from error

    def begin(self, connection: psycopg.Connection[Any] | None = None) -> None:
        """A statement begins, on this connection or on the last one."""
        if connection is not None and connection is not self._connection:
            if self._socket:
                self._socket.close()
            self._connection, self._socket = connection, None
            # A process that may open no more files goes on without a deadline.
            with suppress(OSError):
                self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._at = time.monotonic() + self._seconds

    def end(self) -> None:
        """The statement has ended: what its transaction computes until the next one has no deadline."""
        self._at = math.inf

    def enforce(self) -> None:
        """End the statement if it is late."""
        late = self._socket
        if self._at < time.monotonic() and late:
            self._at = math.inf
            self.gave_up = True
            with suppress(OSError):
                late.shutdown(socket.SHUT_RDWR)


def watch(engine: Engine) -> None:
    """Give the statements of an engine the deadline of their transaction, from the first of a new connection on."""
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", _end)
    # Before SQLAlchemy's own listener, which asks the first connection of an engine about its server.
    event.listen(engine, "connect", _begin_to_connect, insert=True)


def _begin(connection: Connection, cursor: Any, *_arguments: object) -> None:
    if deadline := connection.get_execution_options().get(OPTION):
        deadline.begin(cursor.connection)


def _end(connection: Connection, *_arguments: object) -> None:
    if deadline := connection.get_execution_options().get(OPTION):
        deadline.end()


def _begin_to_connect(connection: psycopg.Connection[Any], _record: object) -> None:
    if deadline := _current.get():
        deadline.begin(connection)


def _watch() -> None:
    while True:
        # Looked up in its module, where gevent replaces it.
        time.sleep(CHECK_SECONDS)
        for deadline in _entered.copy():
            deadline.enforce()


def _forget_all() -> None:
    """In a process that was forked there is no thread, and what was entered is its parent's."""
    _entered.clear()
    _unwatched[:] = [True]


os.register_at_fork(after_in_child=_forget_all)
