"""One outgoing HTTP request under one deadline, whatever the other side does.

urllib3's timeouts hold for each read, and name resolution has none: a server that sends a byte a second is waited for
without end (urllib3 issue 1901, requests issue 3099). So the request runs in a thread of its own. At the deadline the
caller goes on, and the thread's socket is shut down, which ends whatever the thread waits for.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from socket import SHUT_RDWR
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from socket import socket

# A body that breaks off, or that does not decode.
_DAMAGED = (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError)
# As many requests as one process sends to a host at once keep their connections, for this many hosts.
_CONNECTIONS, _HOSTS = 10, 100
_CHECK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response with any status; its header names are in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RequestFailed(Exception):
    """There was no whole response.

    Attributes:
        timed_out: the deadline passed, or a step took too long.
        may_have_arrived: the request may have reached the server.
    """

    def __init__(
        self, message: str, *, timed_out: bool = False, too_large: bool = False, may_have_arrived: bool = True
    ) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.too_large = too_large
        self.may_have_arrived = may_have_arrived


class HttpClient:
    """Sends requests, never follows a redirect, and keeps idle connections. Safe to share between threads."""

    def __init__(
        self,
        *,
        deadline: float,
        connect_timeout: float,
        max_body_bytes: int,
        proxy: str | None = None,
        resolve: Callable[[str, int], Sequence[str]] | None = None,
        cut_body: bool = False,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            deadline: seconds for name resolution, connection, request, headers and body together.
            connect_timeout: seconds for the connection to one address.
            max_body_bytes: bytes, after decompression.
            proxy: URL of a proxy, with user and password if it wants them; None connects directly.
            resolve: the addresses of a host and port that may be connected to, without a proxy; None: all that it has.
            cut_body: a longer body is cut off, and a damaged one ends there; else each is an error.
        """
        self._resolve = resolve
        self._cut_body = cut_body
        self._deadline = deadline
        self._largest_body = max_body_bytes
        options: dict[str, Any] = {
            "num_pools": _HOSTS,
            "maxsize": _CONNECTIONS,
            "retries": False,
            "timeout": urllib3.Timeout(connect=connect_timeout, read=deadline),
            "ssl_context": _tls_context(ssl.get_default_verify_paths()),
        }
        self._pools = _proxy_manager(proxy, options) if proxy else urllib3.PoolManager(**options)
        self._pools.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> HttpResponse:
        """Send a request and read its whole response; `check` is called again and again, and may raise to end it.

        Raises:
            RequestFailed: there was none within the deadline.
        """
        attempt = _Attempt(lambda: self._exchange(method, url, headers, body))
        # A daemon: `concurrent.futures` waits at exit for its threads, also for one that hangs in a name's resolution.
        threading.Thread(target=attempt.run, name="outgoing", daemon=True).start()
        # A result after the deadline is not used: a socket that was shut down looks like the end of a response.
        late = RequestFailed(f"no whole response within {self._deadline:g} s", timed_out=True)
        ends = monotonic() + self._deadline
        try:
            while not attempt.finished.wait(max(0.0, min(ends - monotonic(), _CHECK_SECONDS))) and monotonic() < ends:
                check()
            result = attempt.result if attempt.finished.is_set() else late
        finally:
            # Also where the caller is interrupted while it waits.
            attempt.abandon()
        if isinstance(result, HttpResponse):
            return result
        raise _request_failed(result, may_have_arrived=attempt.connected) from None

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.clear()

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> HttpResponse:
        response = self._request(method, url, headers, body=body, preload_content=False, redirect=False)
        # Closes what was not read to its end; else the connection is back in the pool by then.
        with closing(response):
            content = bytearray()
            with suppress(*(_DAMAGED if self._cut_body else ())):
                while piece := response.read1(65536):
                    content += piece
                    if len(content) > self._largest_body:
                        if self._cut_body:
                            break
                        raise RequestFailed(f"the body is larger than {self._largest_body} bytes", too_large=True)
            return HttpResponse(response.status, response.headers, bytes(content[: self._largest_body]))

    def _request(self, method: str, url: str, headers: Mapping[str, str], **options: Any) -> urllib3.BaseHTTPResponse:
        if self._resolve is None:
            return self._pools.request(method, url, headers=headers, **options)
        target = urllib3.util.parse_url(url)
        host, scheme = (target.host or "").strip("[]"), target.scheme or "http"
        port = target.port or {"http": 80, "https": 443}[scheme]
        # The name goes into `Host`, SNI and the check of the certificate; the connection goes to what was resolved.
        tls = {"server_hostname": host} if scheme == "https" else {}
        named = {**headers, "Host": target.netloc or host}
        *pools, last = (self._pools.connection_from_host(one, port, scheme, tls) for one in self._resolve(host, port))
        for pool in pools:
            with suppress(NewConnectionError, ConnectTimeoutError):
                return pool.urlopen(method, target.request_uri, headers=named, **options)
        return last.urlopen(method, target.request_uri, headers=named, **options)


class _Attempt:
    """One request, which runs in a thread of its own.

    Attributes:
        connection: the one that is used, perhaps a kept one.
        connected: the connection stood, TLS and proxy included, so the server may have read the request.
    """

    def __init__(self, exchange: Callable[[], HttpResponse]) -> None:
        self._exchange = exchange
        self.connection: HTTPConnection | None = None
        self._sockets: list[socket] = []
        self._raw: socket | None = None
        self._turn = threading.Lock()
        self._abandoned = self.connected = False
        self.finished = threading.Event()
        self.result: HttpResponse | Exception = RequestFailed("not begun")

    def run(self) -> None:
        _current.attempt = self
        try:
            self.result = self._exchange()
        except Exception as error:  # noqa: BLE001 - raised by `HttpClient.send`, where it is waited for
            self.result = error
        finally:
            self.finished.set()
            if self._raw is not None:
                self._raw.close()

    def abandon(self) -> None:
        """Nothing is sent from now on; a thread that still waits for its socket ends."""
        with self._turn:
            self._abandoned = True
        if self.finished.is_set():
            return
        for used in (*self._sockets, self._raw, self.connection and self.connection.sock):
            _shut_down_socket(used)

    def on_sending(self) -> None:
        """The connection is made; what is sent from here on may arrive.

        Raises:
            OSError: the caller has gone on, and may try again: nothing may be sent twice.
        """
        with self._turn:
            if self._abandoned:
                raise OSError("the request was abandoned")
            self.connected = True

    def on_handshake(self, raw: socket) -> None:
        """TLS begins. `ssl` takes the socket over, and hands it out after the handshake only: a copy is kept."""
        self._raw = raw.dup()
        self.on_reading(self._raw)

    def on_reading(self, used: socket) -> None:
        """A response is read from a socket, which the connection need not know any more."""
        self._sockets.append(used)
        if self._abandoned:
            _shut_down_socket(used)


def _shut_down_socket(used: Any) -> None:
    with suppress(OSError, AttributeError):
        used.shutdown(SHUT_RDWR)


# `attempt`: the one that a thread works on.
_current = threading.local()


class _WatchedConnection(HTTPConnection):
    """A connection whose socket the attempt knows; each method is http.client's."""

    def connect(self) -> None:
        _current.attempt.connection = self
        super().connect()
        _current.attempt.on_sending()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _current.attempt.connection = self
            _current.attempt.on_sending()
        super().request(*args, **kwargs)

    def getresponse(self) -> Any:
        _current.attempt.on_reading(self.sock)
        return super().getresponse()


class _SecureWatched(_WatchedConnection, HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureWatched


class _Tls(ssl.SSLContext):
    """The standard library's context, which lets the attempt know the socket of a handshake."""

    def wrap_socket(self, sock: socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        _current.attempt.on_handshake(sock)
        return super().wrap_socket(sock, *args, **kwargs)


@cache
def _tls_context(_trusted: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """The context of all clients that trust these files: reading them takes as long as a hundred requests.

    Certificates and host names are checked: `PROTOCOL_TLS_CLIENT` says both.
    """
    context = _Tls(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context


def _proxy_manager(proxy: str, options: dict[str, Any]) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    headers = urllib3.make_headers(proxy_basic_auth=login) if parts.username else None
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)


def _request_failed(error: Exception, *, may_have_arrived: bool) -> RequestFailed:
    """An error of urllib3's as ours; anything else is a fault of the program, and stays what it is."""
    if isinstance(error, RequestFailed):
        error.may_have_arrived = may_have_arrived
        return error
    if not isinstance(error, (HTTPError, HTTPException, OSError)):
        raise error
    timed_out = isinstance(error, (ReadTimeoutError, TimeoutError))
    message = "no response in time" if timed_out else str(error)
    if not may_have_arrived and not timed_out:
        # In the system's message where it has one: urllib3's name its own objects.
        cause = error.__cause__ or error.__context__
        reason = isinstance(error, NewConnectionError) and isinstance(cause, OSError) and cause.strerror
        message = f"cannot connect: {reason or error}"
    return RequestFailed(message, timed_out=timed_out, may_have_arrived=may_have_arrived)
