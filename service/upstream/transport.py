"""One HTTP request to the vendor, its response, and a try that may be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.errors import UpstreamError


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
