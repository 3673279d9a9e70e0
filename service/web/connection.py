"""One client's connection, in the place of its socket: every wait on it ends, and it takes no more than its turn.

gevent's `recv` and gunicorn's parser never yield while data is there: three clients that sent requests without
pause kept every other one out. Here a client that need not be waited for gives way to the others first.

gunicorn's master loads this module: see `gunicorn_worker`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from contextlib import suppress
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gunicorn.http.errors import LimitRequestHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

# From the accepted connection, or the first byte of a later request, to the end of its headers.
HEADERS_TIMEOUT_SECONDS = 20.0
# From there to the end of its body.
BODY_TIMEOUT_SECONDS = 20.0
# For each part of a response: a client that reads slower than this is cut off.
SEND_TIMEOUT_SECONDS = 20.0

# All headers of a request together. gunicorn's own limits allow 400 KB on each connection.
MAX_HEADER_BYTES = 32 * 1024
# Bytes that are read at a time.
READ_BYTES = 16 * 1024

# Processor time. A request is parsed and handled in less; one that has taken more lets the others go first.
TURN_CPU_SECONDS = 0.002
# This many connections that need not be waited for go on at once, however many there are.
TURNS_AT_ONCE = 2
# A client that has sent more small pieces than this is read once a second: ten reads cost as much as a request.
SMALL_READ_BYTES = 512
MAX_SMALL_READS = 8
SLOW_CLIENT_POLL_SECONDS = 1.0
# A positive sleep lasts until the event loop has served all other connections; `sleep(0)` may end before that.
YIELD_SECONDS = 0.001

# How long, and for how many bytes, a client may go on sending after our last word: closing a connection on which data
# is unread resets it, and the client may lose its response.
LINGER_SECONDS = 1.0
MAX_LINGER_BYTES = 1024 * 1024

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TurnQueue:
    """The line of all connections of a process that need not be waited for: a few go on in a turn of the event loop.

    gevent's semaphores let a connection that comes at the right moment overtake those that wait.
    """

    def __init__(self) -> None:
        self._waiters: deque[Event] = deque()
        self._is_moving = False

    def wait(self) -> None:
        """Stand in line until it is one's turn."""
        turn = Event()
        self._waiters.append(turn)
        if not self._is_moving:
            self._is_moving = True
            gevent.spawn(self._move)
        turn.wait()

    def _move(self) -> None:
        while self._waiters:
            gevent.sleep(YIELD_SECONDS)
            for _ in range(min(TURNS_AT_ONCE, len(self._waiters))):
                self._waiters.popleft().set()
        self._is_moving = False


class Connection:
    """A client's socket as gunicorn uses it. All other attributes are those of the socket.

    Attributes:
        idle: whether the next request's headers are awaited.
        is_waiting: whether the client is waited for at this moment.
        is_aborted: whether it will not be waited for any more.
        since: when this phase (headers, body, response) began, by `time.monotonic`.
        requests: how many came over it.
        unfinished: whether the client may still be sending a body when the connection is closed.
        body_bytes: what was received of the current body, with its framing.
    """

    def __init__(self, client: Any, turns: TurnQueue) -> None:
        self.idle = True
        self.is_waiting = False
        self.is_aborted = False
        self.since = monotonic()
        self.requests = 0
        self.unfinished = False
        self.body_bytes = 0
        self._socket = client
        self._turns = turns
        self._greenlet = gevent.getcurrent()
        self._deadline = self.since + HEADERS_TIMEOUT_SECONDS
        self._header_bytes = 0
        self._small_reads = 0
        self._on_body: Callable[[int], None] | None = None
        # Whether the other connections had their turn since the last request of this one.
        self._has_yielded = True
        self._turn_began = thread_time()

    def __getattr__(self, name: str) -> Any:
        """Any other attribute of the socket."""
        return getattr(self._socket, name)

    def expect_request(self, idle_seconds: float) -> bool:
        """Give the others their turn, then let the next request begin within this time: False where it must not."""
        self.idle, self.since = True, monotonic()
        self._header_bytes = self._small_reads = 0
        if not self._has_yielded:
            with suppress(TimeoutError):
                self.yield_turn()
        self._has_yielded = False
        if self.requests:
            self._deadline = monotonic() + idle_seconds
        return not self.is_aborted

    def expect_body(self, on_body: Callable[[int], None]) -> None:
        """The headers are complete; let the body come. `on_body` gets the number of bytes that came, and may raise."""
        self.idle, self.since = False, monotonic()
        self.body_bytes = self._small_reads = 0
        self.requests += 1
        self._deadline = self.since + BODY_TIMEOUT_SECONDS
        self._on_body = on_body

    def expire(self) -> None:
        """Receive nothing more for now."""
        self._deadline = 0.0

    def abort(self) -> None:
        """Wait for this client no longer: its time is over at once."""
        self.is_aborted = True
        gevent.get_hub().loop.run_callback(self._stop_waiting)

    def shut_down_read(self) -> None:
        """Let gunicorn find the end of the connection, behind what has arrived of a request."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def recv(self, size: int) -> bytes:
        """Receive some bytes; none where the connection has ended, or the time for headers is over.

        Raises:
            TimeoutError: the time for the body is over.
            LimitRequestHeaders: the headers are too long.
            OSError: as a socket's, also where a body ends before its end.
        """
        if self.idle:
            return self._receive_head(size)
        data = self._receive(size)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the client disconnected in the middle of a body")
        self.body_bytes += len(data)
        if self._on_body:
            self._on_body(len(data))
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of this.

        Raises:
            ConnectionResetError: the client does not take it in time.
            OSError: as a socket's.
        """
        self.since = monotonic()
        self._socket.settimeout(SEND_TIMEOUT_SECONDS)
        self.is_waiting = True
        try:
            self._socket.sendall(data)
        except TimeoutError:
            # Else the kernel would keep for minutes what the client does not read.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            raise ConnectionResetError(errno.ECONNRESET, "the client does not read its response") from None
        finally:
            self.is_waiting = False

    def send(self, data: bytes) -> int:
        """The same, as a socket's `send`."""
        self.sendall(data)
        return len(data)

    def close(self) -> None:
        """Close it, after a client that is still sending had a moment to stop."""
        with suppress(OSError):
            self._linger()
        self._socket.close()

    def _receive_head(self, size: int) -> bytes:
        try:
            data = self._receive(size)
        except TimeoutError:
            data = self._receive_overdue(size)
            if not data:
                return b""
        if self.requests and not self._header_bytes:
            # It was idle until now.
            self._deadline = monotonic() + HEADERS_TIMEOUT_SECONDS
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise LimitRequestHeaders(f"more than {MAX_HEADER_BYTES} bytes")
        return data

    def _receive_overdue(self, size: int) -> bytes:
        """Receive the first bytes of a request that arrived while this process stood still; none where none did.

        A process that was stopped past the end of an idle connection finds both at once: to close it would reset it.
        """
        if self.is_aborted or not self.requests or self._header_bytes:
            return b""
        self._socket.settimeout(0.0)
        with suppress(BlockingIOError):
            data: bytes = self._socket.recv(min(size, READ_BYTES))
            return data
        return b""

    def _receive(self, size: int) -> bytes:
        """Receive what is there, or wait for it until the deadline."""
        while not self.is_aborted and monotonic() < self._deadline:
            try:
                self._socket.settimeout(0.0)
                data: bytes = self._socket.recv(min(size, READ_BYTES))
            except BlockingIOError:
                self._wait()
                continue
            self._small_reads += len(data) < SMALL_READ_BYTES
            if thread_time() - self._turn_began > TURN_CPU_SECONDS:
                self.yield_turn()
            return data
        raise TimeoutError

    def _wait(self) -> None:
        """Wait until something is there; the other connections have their turn meanwhile."""
        self.is_waiting, left = True, max(0.0, self._deadline - monotonic())
        try:
            if self._small_reads > MAX_SMALL_READS:
                gevent.sleep(min(SLOW_CLIENT_POLL_SECONDS, left))
            else:
                gevent.socket.wait_read(self._socket.fileno(), timeout=left)
        finally:
            self._begin_turn()

    def _begin_turn(self) -> None:
        self.is_waiting = False
        self._has_yielded, self._turn_began = True, thread_time()

    def _stop_waiting(self) -> None:
        """Runs in gevent's hub: only there it is certain that the wait has not just ended."""
        if self.is_waiting:
            self._greenlet.throw(TimeoutError)

    def yield_turn(self) -> None:
        """Let all others go first.

        Raises:
            TimeoutError: the connection was cut meanwhile.
        """
        self.is_waiting = True
        try:
            self._turns.wait()
        finally:
            self._begin_turn()

    def _linger(self) -> None:
        """Throw away for a moment what a client still sends after it was sent a response."""
        if self.idle and not self.unfinished:
            return
        self._socket.settimeout(0.0)
        if not self.unfinished and not self._socket.recv(READ_BYTES):
            return
        self.is_aborted, self.since = False, monotonic()
        self._deadline = self.since + LINGER_SECONDS
        self._socket.shutdown(socket.SHUT_WR)
        left = MAX_LINGER_BYTES
        while left > 0 and (data := self._receive(READ_BYTES)):
            left -= len(data)
