"""One HTTP request to the vendor and its response, with the bearer key in and every library error kept in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service import __version__
from service.errors import UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from service.http_client import HttpClient, RequestFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

# A page of 200 models is 0.1 MB; more than this is no response of the vendor's.
_LARGEST_BODY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request, before it is known where to.

    Attributes:
        route: the path with names in place of ids, for messages and metrics.
        path: what follows the base URL, percent-encoded, with its query.
        about_model: a 404 means that the model does not exist.
    """

    method: str
    route: str
    path: str
    body: bytes | None = None
    about_model: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


@dataclass(frozen=True, slots=True)
class TransportResponse:
    """A response with any status.

    Attributes:
        headers: by name in any case.
        received_unix_time: when its last byte had arrived, Unix seconds of our clock.
        elapsed: seconds from before the request was sent until then.
    """

    request: UpstreamRequest
    status: int
    headers: Mapping[str, str]
    body: bytes
    received_unix_time: float
    elapsed: float


class RetryableError(Exception):
    """A try that may be repeated; inside this package only.

    Attributes:
        error: what the caller gets when it is not repeated.
        may_have_arrived: the vendor may have done what was requested.
        retry_after: seconds to wait before the next try, from the vendor; None where it sent none.
    """

    def __init__(
        self, error: UpstreamError, *, may_have_arrived: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_have_arrived = may_have_arrived
        self.retry_after = retry_after


class HttpTransport:
    """Connections to one base URL with one key."""

    def __init__(
        self, base_url: str, api_key: str, *, connect_timeout: float, response_timeout: float, proxy: str | None = None
    ) -> None:
        """Prepare; nothing is connected yet. The arguments are those of `UpstreamClient`."""
        self._base = base_url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            # A cache on the way would show what was so a while ago.
            "Cache-Control": "no-cache",
            "User-Agent": f"headshot-mirror/{__version__}",
        }
        self._http_client = HttpClient(
            deadline=response_timeout, connect_timeout=connect_timeout, max_body_bytes=_LARGEST_BODY, proxy=proxy
        )

    def exchange(self, request: UpstreamRequest) -> TransportResponse:
        """Send a request and read its whole response, whatever its status.

        Raises:
            RetryableError: there was no whole response.
        """
        headers = self._headers if request.body is None else self._headers | {"Content-Type": "application/json"}
        before = time.monotonic()
        try:
            response = self._http_client.send(request.method, self._base + request.path, headers, request.body)
        except RequestFailed as error:
            raise _retryable_error(request, error) from None
        elapsed = time.monotonic() - before
        return TransportResponse(request, response.status, response.headers, response.body, time.time(), elapsed)

    def close(self) -> None:
        """Close the idle connections."""
        self._http_client.close()


def _retryable_error(request: UpstreamRequest, error: RequestFailed) -> RetryableError:
    """Which of our errors it is; a library's message may hold addresses, never the key."""
    kind = UpstreamTimeout if error.timed_out else UpstreamMalformed if error.too_large else UpstreamUnreachable
    return RetryableError(kind(f"{request}: {error}"), may_have_arrived=error.may_have_arrived)
