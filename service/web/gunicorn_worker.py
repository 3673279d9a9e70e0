"""gunicorn's gevent worker, made fair to its clients: every wait for one has an end, and so has its shutdown.

gunicorn's own worker serves a client that never pauses until it kills itself, and waits without end for a body, or for
a client that does not read. When it has to end it closes its listening socket at once, which resets whatever waits in
the queue, and then waits for idle connections until its time is over.

Why: `docs/decisions/0002-the-web-server.md`.
"""

from __future__ import annotations

import resource
import socket
from contextlib import nullcontext, suppress
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pool import Pool
from gevent.select import select
from gevent.server import StreamServer
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.workers.ggevent import GeventWorker

from service.errors import ApiError
from service.web.bodies import MAX_SKIPPED_BYTES, BodyBudget, BodyReader
from service.web.connection import YIELD_SECONDS, Connection, TurnQueue

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# After this many requests a connection ends, and its client has to queue for a new one like the others.
REQUESTS_PER_CONNECTION = 1000
# Connections that a process accepts in a turn of its event loop at most, and in a second where turns are long.
MAX_ACCEPTS_PER_TURN = 32
ACCEPTS_PER_SECOND = 50
# Connections beyond the limit, while the connections that they replace are being closed.
SPARE_CONNECTIONS = 64
# The kernel buffers this for a client that does not read; by default it would buffer up to 4 MB.
SEND_BUFFER_BYTES = 128 * 1024

# A worker that stops accepts for this long at most: a flood may keep the listen queue from ever being empty.
ACCEPT_DRAIN_SECONDS = 1.0
# For this long an idle connection may bring one last request; then it is closed. A proxy uses an open connection often
# or hardly ever: the response to that request ends it without a race between a request and the end.
LAST_REQUEST_TIMEOUT_SECONDS = 2.0
# gunicorn's master kills what is left after `graceful_timeout`.
KILL_MARGIN_SECONDS = 0.5
POLL_SECONDS = 0.1

# The errors of a request that never reaches the application; all others are a 400.
PARSE_ERROR_STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}


class HostMissing(ParseException):  # type: ignore[misc]  # gunicorn has no types
    """A request of HTTP/1.1 names no host, or several (RFC 9112: 400)."""


class FairGeventWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """The endpoint's worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # By the greenlet that serves it.
        self._connections: dict[Any, Connection] = {}
        self._bodies = BodyBudget()
        self._turns = TurnQueue()
        # Set by `heartbeat.WebHeartbeat` when the application is loaded.
        self.heartbeat: Any = None

    def run(self) -> None:
        """Serve until SIGTERM; then finish the requests in flight and close every connection."""
        _allow_many_files()
        servers = [self._serve(listener) for listener in self.sockets]
        while self.alive:
            lag_seconds = self._sleep_and_measure_lag()
            if self.cfg.workers > 1:
                for server in servers:
                    server.max_accept = accepts_per_turn(lag_seconds)
        deadline = monotonic() + self.cfg.graceful_timeout - KILL_MARGIN_SECONDS
        self._end_streams()
        self._close_listeners(servers)
        self._finish_in_flight(deadline)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, and know of it meanwhile."""
        connection = Connection(client, self._turns)
        self._connections[gevent.getcurrent()] = connection
        try:
            self._make_room()
            super().handle(listener, connection, addr)
        finally:
            del self._connections[gevent.getcurrent()]

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """The context in which gunicorn waits for the next request; `Connection.recv` ends the wait in time.

        Raises:
            StopIteration: there will be none.
        """
        if not self._connections[gevent.getcurrent()].expect_request(self.cfg.keepalive):
            raise StopIteration
        return nullcontext()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Handle one request, whose body has its limits too.

        Raises:
            StopIteration: it was the connection's last one.
            ParseException: it is refused.
        """
        _require_usable_head(req)
        body = BodyReader(req, sock, self._bodies)
        req.body.reader = body
        if sock.requests >= REQUESTS_PER_CONNECTION or _content_length(req) > MAX_SKIPPED_BYTES:
            req.force_close()
        try:
            super().handle_request(listener_name, req, sock, addr)
            body.skip()
        finally:
            body.close()
        if not body.ended:
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Respond to a request that is no HTTP with an error in the vendor's form; gunicorn's own is HTML."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("a request cannot be read: %s", type(exc).__name__)
        client.unfinished = True
        with suppress(OSError):
            client.sendall(_parse_error_response(exc))

    def _serve(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        pool = Pool(self.worker_connections + SPARE_CONNECTIONS)
        server = StreamServer(listener, handle=partial(self.handle, listener), spawn=pool)
        if self.cfg.workers > 1:
            server.max_accept = accepts_per_turn(0)
        server.start()
        return server

    def _end_streams(self) -> None:
        """End the console's streams, which would last for minutes; their clients come back to the next worker."""
        streams = getattr(self.wsgi, "extensions", {}).get("console_streams")
        if streams is not None:
            streams.stop()

    def _close_listeners(self, servers: list[StreamServer]) -> None:
        """Accept until the listen queues are empty, then close: the kernel resets whatever waits in a closed queue.

        A connection that comes between the last check and the close is reset. Its client has to repeat its request.
        """
        for server in servers:
            server.max_accept = MAX_ACCEPTS_PER_TURN
        deadline = monotonic() + ACCEPT_DRAIN_SECONDS
        while monotonic() < deadline and select(self.sockets, [], [], 0)[0]:
            gevent.sleep(YIELD_SECONDS)
        for server in servers:
            server.close()

    def _finish_in_flight(self, deadline: float) -> None:
        """Finish every request in flight, also the last one of each idle connection."""
        last_requests = monotonic() + LAST_REQUEST_TIMEOUT_SECONDS
        while self._connections and monotonic() < deadline:
            if monotonic() > last_requests:
                for idle in (one for one in self._connections.values() if one.idle):
                    idle.shut_down_read()
            self._sleep_and_measure_lag()
        if self._connections:
            self.log.warning("%d connections are broken off in mid-request", len(self._connections))

    def _make_room(self) -> None:
        """Above the limit of connections, close the one whose client this process has waited for longest."""
        if len(self._connections) > self.worker_connections:
            waiting = [one for one in self._connections.values() if one.is_waiting and not one.is_aborted]
            if waiting:
                min(waiting, key=lambda one: one.since).abort()

    def _sleep_and_measure_lag(self) -> float:
        """Rest for a moment: how many seconds the event loop was late after it."""
        self.notify()
        due = monotonic() + POLL_SECONDS
        gevent.sleep(POLL_SECONDS)
        return monotonic() - due


def accepts_per_turn(lag_seconds: float) -> int:
    """How many connections a process may accept in one turn of its event loop, of which there are several.

    With many at once, one process takes a whole burst while the others rest. With one, new connections wait for a whole
    turn each, which is long while hundreds of clients are served.
    """
    return max(1, min(MAX_ACCEPTS_PER_TURN, round(lag_seconds * ACCEPTS_PER_SECOND)))


def _require_usable_head(req: Any) -> None:
    """Refuse what gunicorn lets through, and the application could only take for something else.

    Raises:
        HostMissing: it names no host.
        UnsupportedTransferCoding: its body is compressed for the transfer; gunicorn would hand it on as it came.
    """
    values = [value for name, value in req.headers if name == "TRANSFER-ENCODING"]
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    if codings not in ([], ["chunked"]):
        raise UnsupportedTransferCoding(", ".join(codings))
    if req.version >= (1, 1) and sum(name == "HOST" for name, _value in req.headers) != 1:
        raise HostMissing


def _content_length(req: Any) -> int:
    """The length that a request's headers announce for its body; gunicorn has checked that it is a number."""
    return next((int(value) for name, value in req.headers if name == "CONTENT-LENGTH"), 0)


def _allow_many_files() -> None:
    """Use what the machine allows: most begin with 1,024 files for a process, and each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parse_error_response(error: ParseException) -> bytes:
    """The whole response to a request that cannot be read; it repeats nothing of the request."""
    status = PARSE_ERROR_STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
    message = f"the request cannot be read: {type(error).__name__}"
    body = ApiError(status, "INVALID_REQUEST", message).body()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
