"""One HTTP request to the vendor and its answer, with the bearer key in and every library error kept in.

urllib3 keeps the connections; its own retries and redirects are off, because each try spends budget and the key must
never follow a redirect to another host.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from service import __version__
from service.errors import SettingsError, UpstreamError, UpstreamGarbled, UpstreamTimeout, UpstreamUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

# A page of 200 models is 0.1 MB; more than this is no answer of the vendor's.
_LARGEST_BODY = 16 * 1024 * 1024

# As many requests as one process sends at once keep their connections.
_CONNECTIONS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """A request, before it is known where to.

    Attributes:
        method: GET, POST or DELETE.
        route: the path with names in place of ids, for messages and metrics.
        path: what follows the base URL, percent-encoded, with its query.
        body: JSON, or None.
        about_model: a 404 says that the model does not exist.
    """

    method: str
    route: str
    path: str
    body: bytes | None = None
    about_model: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with any status.

    Attributes:
        request: what it answers.
        headers: by name in any case.
        answered: when its last byte had arrived, Unix seconds of our clock.
        elapsed: seconds from before the request was sent until then.
    """

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    answered: float
    elapsed: float


class Fault(Exception):
    """A try that may be repeated; inside this package only.

    Attributes:
        error: what the caller gets when it is not repeated.
        may_have_arrived: the vendor may have done what was asked.
    """

    def __init__(self, error: UpstreamError, *, may_have_arrived: bool = True) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_have_arrived = may_have_arrived


class Wire:
    """Connections to one base URL with one key."""

    def __init__(self, base_url: str, api_key: str, *, connect_timeout: float, read_timeout: float) -> None:
        """Prepare; nothing is connected yet.

        Args:
            base_url: with `/api/v2`.
            api_key: sent as bearer token.
            connect_timeout: seconds.
            read_timeout: seconds without a byte, and for the whole of a body.

        Raises:
            SettingsError: the key cannot stand in a header; what http.client says of it would print it.
        """
        if not api_key.isascii() or not api_key.isprintable():
            raise SettingsError("HEADSHOTPRO_API_KEY is malformed: it holds characters that no header may hold")
        self._base = base_url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": f"headshot-mirror/{__version__}",
        }
        self._read_timeout = read_timeout
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            retries=False,
            timeout=urllib3.Timeout(connect=connect_timeout, read=read_timeout),
        )

    def exchange(self, request: Request) -> Reply:
        """Send a request and read its whole answer, whatever its status.

        Raises:
            Fault: there was no whole answer.
        """
        headers = self._headers if request.body is None else self._headers | {"Content-Type": "application/json"}
        before = time.monotonic()
        try:
            response = self._pool.request(
                request.method,
                self._base + request.path,
                headers=headers,
                body=request.body,
                preload_content=False,
                redirect=False,
            )
            # Closes what was not read to its end; else the connection is back in the pool by then.
            with closing(response):
                body = self._collect(request, response)
        except (HTTPError, HTTPException, OSError) as error:
            raise _fault(request, error) from None
        elapsed = time.monotonic() - before
        return Reply(request, response.status, response.headers, body, time.time(), elapsed)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def _collect(self, request: Request, response: BaseHTTPResponse) -> bytes:
        """The whole body; a server that drips it, or sends no end of it, is given up."""
        deadline = time.monotonic() + self._read_timeout
        body = bytearray()
        # read1 comes back with what has arrived, so the deadline is looked at between two pieces.
        while piece := response.read1(65536):
            body += piece
            if len(body) > _LARGEST_BODY:
                raise Fault(UpstreamGarbled(f"{request}: the answer is larger than any of the vendor's"))
            if time.monotonic() > deadline:
                raise Fault(UpstreamTimeout(f"{request}: the answer was not whole in {self._read_timeout:g} s"))
        return bytes(body)


def _fault(request: Request, error: Exception) -> Fault:
    """What a library's error means; its own words may hold addresses, never the key."""
    if isinstance(error, (NewConnectionError, ConnectTimeoutError)):
        words = f"{request}: cannot connect: {error}"
        return Fault(UpstreamUnreachable(words), may_have_arrived=False)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return Fault(UpstreamTimeout(f"{request}: no answer in time"))
    return Fault(UpstreamUnreachable(f"{request}: no whole answer: {error}"))
