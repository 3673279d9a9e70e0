"""gunicorn's gevent worker with two manners more: it parts politely, and it waits for nobody for ever.

gunicorn's own worker closes its listening socket at once when it is asked to end, which resets whoever waits in the
queue, and then waits for connections on which nobody speaks until its time is over. It also waits for a body without
end. gunicorn's master loads this module, so nothing here may import Flask or the clients of our servers (`serving`).
"""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.ggevent import GeventWorker

from service.web.newcomers import turn_newcomers_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# From the accepted connection to the end of the first request's headers, and from there to the end of its body.
HEAD_SECONDS = 20.0
BODY_SECONDS = 20.0

# How long handshakes that are under way may take when the process is asked to end.
HANDSHAKE_SECONDS = 0.2
# So long a connection that is kept may bring one more request; then it is closed. A proxy that has one open uses it
# often or hardly ever: the answer to that request ends it without a race between a request and the end.
LAST_REQUEST_SECONDS = 2.0
# gunicorn's master kills what is left after `graceful_timeout`.
BEFORE_THE_KILL_SECONDS = 0.5
LOOK_SECONDS = 0.1

# What is wrong with a request that never reaches the application; all else is a 400.
STATUSES = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}


@dataclass(slots=True)
class _Connection:
    """One client's connection.

    Attributes:
        socket: to the client.
        served: whether a request came over it already.
        idle: whether the next request's headers are awaited.
    """

    socket: socket.socket
    served: bool = False
    idle: bool = True


class PoliteWorker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """The door's worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: dict[Any, _Connection] = {}

    def run(self) -> None:
        """Serve until asked to end; then part from everybody."""
        servers = [self._serve(listener) for listener in self.sockets]
        while self.alive:
            self._rest()
        deadline = monotonic() + self.cfg.graceful_timeout - BEFORE_THE_KILL_SECONDS
        self._close_listeners(servers)
        self._part(deadline)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, and know of it meanwhile."""
        me = gevent.getcurrent()
        self._connections[me] = _Connection(client)
        try:
            super().handle(listener, client, addr)
        finally:
            del self._connections[me]

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """What gunicorn waits in for the next request's headers; the request is none when the time is over."""
        connection = self._connections[gevent.getcurrent()]
        connection.idle = True
        try:
            with gevent.Timeout(self.cfg.keepalive if connection.served else HEAD_SECONDS, False):
                yield
        finally:
            connection.idle, connection.served = False, True

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, whose body has its time too."""
        patient = req.body.reader
        req.body.reader = _InTime(patient, BODY_SECONDS, req.force_close)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            # What the application left unread gunicorn reads away itself, within `timeout_ctx`.
            req.body.reader = patient

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that is no HTTP in the form that every error of ours has; gunicorn's own is HTML."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.warning("a request cannot be read: %s", type(exc).__name__)
        with suppress(OSError):
            util.write_nonblock(client, _refusal(exc))

    def _serve(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        server = StreamServer(listener, handle=partial(self.handle, listener), spawn=Pool(self.worker_connections))
        if self.cfg.workers > 1:
            # Else one process would take a whole burst while the others rest.
            server.max_accept = 1
        server.start()
        return server

    def _close_listeners(self, servers: list[StreamServer]) -> None:
        """Close them when nobody waits in their queues."""
        for listener in self.sockets:
            turn_newcomers_away(listener)
        deadline = monotonic() + HANDSHAKE_SECONDS
        while monotonic() < deadline:
            self._rest()
        for server in servers:
            server.close()

    def _part(self, deadline: float) -> None:
        """Let every request in hand be answered, the last one of each kept connection too."""
        last_requests = monotonic() + LAST_REQUEST_SECONDS
        while self._connections and monotonic() < deadline:
            if monotonic() > last_requests:
                self._hang_up()
            self._rest()
        if self._connections:
            self.log.warning("%d connections are broken off in mid-request", len(self._connections))

    def _hang_up(self) -> None:
        """Let gunicorn find the end of each idle connection, behind what has arrived of a request.

        A copy of the socket is shut: gevent's own would raise an error where the socket itself is waited on.
        """
        for connection in [one for one in self._connections.values() if one.idle]:
            with suppress(OSError), connection.socket.dup() as copy:
                copy.shutdown(socket.SHUT_RD)

    def _rest(self) -> None:
        self.notify()
        gevent.sleep(LOOK_SECONDS)


def _refusal(error: ParseException) -> bytes:
    """The whole answer to a request that cannot be read; its own words are not repeated."""
    status = STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
    words = f"the request cannot be read: {type(error).__name__}"
    body = json.dumps({"success": False, "error": words, "code": "INVALID_REQUEST"}).encode() + b"\n"
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _InTime:
    """Reads a body for the application, to an end; what goes wrong is an answer to the client, not an error of ours.

    Args:
        reader: gunicorn's reader of the body.
        seconds: the whole body has to be here after so long.
        give_up: called when it cannot be read; where the next request begins is unknown then.
    """

    def __init__(self, reader: Any, seconds: float, give_up: Callable[[], None]) -> None:
        self._reader = reader
        self._deadline = monotonic() + seconds
        self._give_up = give_up

    def read(self, size: int) -> bytes:
        """The next bytes of the body; none at its end.

        Raises:
            RequestTimeout: they did not come in time.
            BadRequest: they are not what HTTP says, or the client is gone.
        """
        # Late, because the master must not load it: see the top.
        from werkzeug.exceptions import BadRequest, RequestTimeout  # noqa: PLC0415

        try:
            with gevent.Timeout(max(0.0, self._deadline - monotonic()), TimeoutError):
                read: bytes = self._reader.read(size)
        except TimeoutError:
            self._give_up()
            raise RequestTimeout("the body took too long") from None
        except (ParseException, OSError) as error:
            self._give_up()
            raise BadRequest(f"the body cannot be read: {type(error).__name__}") from None
        return read
