"""From an HTTP response to the requested data, or to one of our errors. Pure.

Why: `docs/decisions/0020-what-the-upstream-says.md`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET

from service.errors import (
    KeyRejected,
    ModelNotFound,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamUnreachable,
    VendorErrorResponse,
)
from service.redaction import redact, redact_bytes
from service.upstream.headers import rate_limit_wait, response_interval, retry_after
from service.upstream.json_text import decode
from service.upstream.mending import repair_json
from service.upstream.records import ParsedBody
from service.upstream.transport import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from service.upstream.records import UnusableRecord
    from service.upstream.transport import TransportResponse

T = TypeVar("T")

# E-mail addresses and links: the vendor's message may repeat what was sent, and our messages end up in logs.
_PRIVATE = re.compile(r"\S*(?:@|://)\S*")

_MAX_MESSAGE_LENGTH = 300

# A request that these refuse may be sent again as it is: the server gave up waiting for it, or would not risk a replay.
_REPEATABLE_STATUSES = frozenset({408, 425})

# The vendor's codes (its error table), for the HTTP status that an error body should have come with.
_STATUS_OF_CODE = {
    "INVALID_REQUEST": 400,
    "INVALID_EMAIL": 400,
    "ALREADY_EXISTS": 400,
    "ALREADY_DELETED": 400,
    "UNAUTHORIZED": 401,
    "INSUFFICIENT_CREDITS": 402,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "RATE_LIMIT_EXCEEDED": 429,
}
_NOT_FOUND = "NOT_FOUND"

# Headers of an error that are useful for the client that sent the first request.
_FORWARDED_HEADERS = frozenset({"retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})


@dataclass(frozen=True, slots=True)
class UpstreamResponse(Generic[T]):
    """A response of the vendor, and when it was true.

    Attributes:
        sent_at: lower end of the time at which it was read from the vendor's data, on the vendor's clock.
        received_at: upper end of it.
        raw: its body as it came; it may hold a login link, so no repr shows it.
        set_aside: what of the body could not be used.
    """

    body: T
    sent_at: datetime
    received_at: datetime
    status: int = 200
    raw: bytes = field(default=b"", repr=False)
    set_aside: tuple[UnusableRecord, ...] = ()


class RateLimited(Exception):
    """The vendor responded with 429; inside this package only.

    Attributes:
        seconds: how long to wait, by its headers; None where they have no time.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"429, to be repeated after {seconds} s")
        self.seconds = seconds


class _ErrorBody(msgspec.Struct):
    """The vendor's error body; of whatever types, because a proxy on the way may have written it."""

    success: Any = UNSET
    error: Any = None
    code: Any = None


_ERROR_BODY_DECODER = msgspec.json.Decoder(_ErrorBody)


def body_decoder(shape: type[T]) -> Callable[[bytes], ParsedBody[T]]:
    """A function that decodes bodies of one shape, for `read`."""
    decoder = msgspec.json.Decoder(shape)
    return lambda body: ParsedBody(decode(decoder, body))


def read(response: TransportResponse, decode_body: Callable[[bytes], ParsedBody[T]]) -> UpstreamResponse[T]:
    """Read a response.

    Args:
        response: any response.
        decode_body: raises `msgspec.ValidationError` for JSON of another shape, another `ValueError` for no JSON.

    Raises:
        RateLimited: 429.
        RetryableError: 408, 425, 5xx, an error without a code that came as a success, or a success whose body is not
            JSON: the request may be repeated.
        UpstreamRejected: another 4xx, or an error of the vendor's that came as a success.
        UpstreamMalformed: anything that the vendor does not document.
    """
    require_success(response)
    try:
        try:
            parsed = decode_body(response.body)
        except msgspec.ValidationError:
            raise
        except ValueError:
            # One odd byte or piece in a page is no reason to lose the page.
            parsed = decode_body(repair_json(response.body))
    except msgspec.ValidationError as error:
        raise UpstreamMalformed(f"{response.request}: {error}") from None
    except ValueError as error:
        raise RetryableError(UpstreamMalformed(f"{response.request}: the response is not JSON: {error}")) from None
    return UpstreamResponse(parsed.body, *response_interval(response), response.status, response.body, parsed.set_aside)


def require_success(response: TransportResponse) -> bool:
    """Raise what `read` raises for a response that is an error, by its HTTP status or by `success` in its body.

    Returns:
        Whether its body says `success`. One that does not is believed for its shape, where it has one.
    """
    if not 200 <= response.status <= 299:
        raise _status_error(response)
    error_body = _error_body(response)
    if error_body is not None and error_body.success is not UNSET and error_body.success is not True:
        raise _error_despite_success(response, error_body)
    return error_body is not None and error_body.success is True


def vendor_error_code(response: TransportResponse) -> str:
    """The vendor's code in an error body; empty where it sent none."""
    error_body = _vendor_error(response)
    return error_body.code if error_body and isinstance(error_body.code, str) else ""


def _status_error(response: TransportResponse) -> Exception:
    if response.status == 429:
        return RateLimited(rate_limit_wait(response))
    if response.status >= 500 or response.status in _REPEATABLE_STATUSES:
        failed = UpstreamFailed(f"{response.request}: the vendor sent {response.status}{_vendor_message(response)}")
        return RetryableError(
            _with_vendor_response(failed, response, response.status), retry_after=retry_after(response)
        )
    if response.status >= 400:
        return _with_vendor_response(_rejection(response), response, response.status)
    return UpstreamMalformed(f"{response.request}: the vendor sent {response.status}: is HEADSHOTPRO_API_URL right?")


def _error_despite_success(response: TransportResponse, error_body: _ErrorBody) -> Exception:
    """An error that came with a status of success; its code shows which one it is; without a code it may pass."""
    code = error_body.code if isinstance(error_body.code, str) else ""
    status = _STATUS_OF_CODE.get(code, 0)
    message = f"{response.request}: the vendor sent {response.status} without success{_vendor_message(response)}"
    if status == 429:
        return RateLimited(rate_limit_wait(response))
    if status in (401, 403):
        return _with_vendor_response(KeyRejected(status, code, message), response, status)
    if status:
        # A 404 that came as a success is not the evidence that `ModelNotFound` is.
        return _with_vendor_response(UpstreamRejected(status, code, message), response, status)
    return RetryableError(
        _with_vendor_response(UpstreamFailed(message), response, 502), retry_after=retry_after(response)
    )


def _rejection(response: TransportResponse) -> UpstreamError:
    code = vendor_error_code(response)
    message = f"{response.request}: the vendor sent {response.status}{_vendor_message(response)}"
    if response.status in (401, 403):
        return KeyRejected(response.status, code, message)
    if response.status == 407:
        return UpstreamUnreachable(f"{message}: the proxy wants another user or password: see HTTPS_PROXY, HTTP_PROXY")
    if response.status == 404 and (not code or (response.request.about_model and code != _NOT_FOUND)):
        # A proxy's or another server's 404 is no evidence about the model: it must not make a tombstone.
        return UpstreamMalformed(f"{message}, without the vendor's code {_NOT_FOUND}: is HEADSHOTPRO_API_URL right?")
    if response.status == 404 and response.request.about_model:
        return ModelNotFound(code, message, *response_interval(response))
    return UpstreamRejected(response.status, code, message)


def _with_vendor_response(error: UpstreamError, response: TransportResponse, status: int) -> UpstreamError:
    """An error with the vendor's own response for API clients, where it is an error in the vendor's form."""
    error_body = _vendor_error(response)
    if error_body is not None:
        headers = {name: value for name, value in response.headers.items() if name.lower() in _FORWARDED_HEADERS}
        body = response.body if _is_whole(error_body) else _whole_error(error_body, status)
        error.vendor_response = VendorErrorResponse(status, redact_bytes(body), headers)
    return error


def _is_whole(error_body: _ErrorBody) -> bool:
    return error_body.success is False and isinstance(error_body.error, str) and isinstance(error_body.code, str)


def _whole_error(error_body: _ErrorBody, status: int) -> bytes:
    """An error body with the three members that each error of the API has, for one that lacks some."""
    message = error_body.error if isinstance(error_body.error, str) else "The upstream refuses the request"
    by_status = next((code for code, of_code in _STATUS_OF_CODE.items() if of_code == status), "UPSTREAM_ERROR")
    code = error_body.code if isinstance(error_body.code, str) else by_status
    return msgspec.json.encode({"success": False, "error": message, "code": code})


def _vendor_error(response: TransportResponse) -> _ErrorBody | None:
    """The error body, where it is one of the vendor's; else a proxy may have written it."""
    error_body = _error_body(response)
    return error_body if error_body and (error_body.success is False or error_body.code or error_body.error) else None


def _error_body(response: TransportResponse) -> _ErrorBody | None:
    """The members of a body that report success or an error; None where it is no JSON object."""
    try:
        return decode(_ERROR_BODY_DECODER, response.body)
    except msgspec.ValidationError:
        return None
    except ValueError:
        with suppress(ValueError):
            return decode(_ERROR_BODY_DECODER, repair_json(response.body))
        return None


def _vendor_message(response: TransportResponse) -> str:
    """The vendor's message of an error, to follow our own, without anything private."""
    error_body = _vendor_error(response)
    texts = [part for part in (error_body.code, error_body.error) if isinstance(part, str)] if error_body else []
    # Before it is cut: the first half of a key is a secret, too.
    plain = redact(" ".join(": ".join(texts).split()))[:_MAX_MESSAGE_LENGTH]
    return f" ({_PRIVATE.sub('…', plain)})" if plain else ""
