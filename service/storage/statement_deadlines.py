"""An end for the wait of each statement, also where its server was stopped or its machine hangs.

The server's own limit (`statement_timeout`) ends nothing then, and no timeout of libpq does: the kernel of that machine
still acknowledges what it gets. So a thread of this process looks each second for statements that are late, and shuts
their connections' sockets down: the statement fails as it does where a connection breaks.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import event

if TYPE_CHECKING:
    from psycopg import Connection
    from sqlalchemy import Engine

# So much later than the server itself does it ends a statement: on a busy machine its error takes a while.
GRACE_SECONDS = 5.0
CHECK_SECONDS = 1.0

# An option of connections of SQLAlchemy: its transaction's deadline.
OPTION = "headshotpro_deadline"

_lock = threading.Lock()
_watched: set[StatementDeadline] = set()
_watchers: list[threading.Thread] = []


class StatementDeadline:
    """The deadline of a transaction's statements, one after the other, while the block is entered.

    Attributes:
        seconds: the server's limit of each; to begin a transaction takes it no time.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._connection: Connection[Any] | None = None
        self._at = math.inf

    def __enter__(self) -> Self:
        with _lock:
            _watched.add(self)
            # After a fork the thread is not there any more.
            if not (_watchers and _watchers[0].is_alive()):
                _watchers[:] = [threading.Thread(target=_watch, name="statement-deadlines", daemon=True)]
                _watchers[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        with _lock:
            _watched.discard(self)

    def begin(self, connection: Connection[Any] | None = None) -> None:
        """A statement begins, on this connection or on the last one."""
        self._connection = connection or self._connection
        self._at = time.monotonic() + self.seconds + GRACE_SECONDS

    def end(self) -> None:
        """The statement has ended."""
        self._at = math.inf

    def enforce(self) -> None:
        """End the statement if it is late."""
        if self._at < time.monotonic() and self._connection and not self._connection.closed:
            self._at = math.inf
            with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)


def watch_statements(engine: Engine) -> None:
    """Let each statement of an engine begin and end with the deadline of its transaction, where it has one."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(connection: Any, cursor: Any, *_arguments: object) -> None:
        if deadline := connection.get_execution_options().get(OPTION):
            deadline.begin(cursor.connection)

    @event.listens_for(engine, "after_cursor_execute")
    def end(connection: Any, *_arguments: object) -> None:
        if deadline := connection.get_execution_options().get(OPTION):
            deadline.end()


def _watch() -> None:
    while True:
        time.sleep(CHECK_SECONDS)
        with _lock:
            for deadline in _watched:
                deadline.enforce()
