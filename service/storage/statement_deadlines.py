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
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

# So much later than the server itself a statement is given up: on a busy machine the server's error takes a while.
GRACE_SECONDS = 5.0
CHECK_SECONDS = 1.0
# The option of SQLAlchemy's connection that holds the deadline of its transaction.
OPTION = "headshotpro_deadline"

# No lock guards it: a greenlet of web that waited for one would stop its whole process.
_entered: set[StatementDeadline] = set()
_watchers: list[threading.Thread] = []


class StatementDeadline:
    """The deadline of a transaction's statements, one after the other, while the block is entered.

    Args:
        seconds: the server's limit of each.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds + GRACE_SECONDS
        self._at = math.inf
        self._connection: psycopg.Connection[Any] | None = None
        # A descriptor of our own: psycopg's number may be another socket's by the time that it is needed.
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        _entered.add(self)
        # After a fork the thread is not there any more.
        if not (_watchers and _watchers[0].is_alive()):
            _watchers[:] = [threading.Thread(target=_watch, name="statement-deadlines", daemon=True)]
            _watchers[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        _entered.discard(self)
        if self._socket:
            self._socket.close()

    def renew(self, connection: psycopg.Connection[Any] | None = None) -> None:
        """A statement begins, on this connection or on the last one."""
        if connection is not None and connection is not self._connection:
            if self._socket:
                self._socket.close()
            self._connection, self._socket = connection, socket.socket(fileno=os.dup(connection.fileno()))
        # Between statements it stays: the server ends a transaction that is idle for so long, too.
        self._at = time.monotonic() + self._seconds

    def enforce(self) -> None:
        """End the statement if it is late."""
        if self._at < time.monotonic() and self._socket:
            self._at = math.inf
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def renew(connection: Connection, cursor: Any, *_arguments: object) -> None:
    """Renew the deadline of a connection before each statement: a listener of `before_cursor_execute`."""
    if deadline := connection.get_execution_options().get(OPTION):
        deadline.renew(cursor.connection)


def _watch() -> None:
    while True:
        # Looked up in its module, where gevent replaces it.
        time.sleep(CHECK_SECONDS)
        for deadline in _entered.copy():
            deadline.enforce()
