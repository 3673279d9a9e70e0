"""From an HTTP answer to what the caller asked for, or to one of our errors. Pure."""

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
    Said,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamRejected,
    UpstreamUnreachable,
)
from service.redaction import redact, redact_bytes
from service.upstream.headers import interval, retry_after, told_to_wait
from service.upstream.json_text import decode
from service.upstream.mending import mended
from service.upstream.transport import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from service.upstream.records import Unusable
    from service.upstream.transport import Reply

T = TypeVar("T")

# E-mail addresses and links: the vendor's words may repeat what was sent, and our messages end up in logs.
_PRIVATE = re.compile(r"\S*(?:@|://)\S*")

_LONGEST_WORDS = 300

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

# Headers of an error that say something to whoever asked in the end.
_PASSED_ON = frozenset({"retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the vendor answered, and when it was true.

    Attributes:
        body: the decoded answer.
        sent_at: lower end of the time at which it was read from the vendor's data, on the vendor's clock.
        answered_at: upper end of it.
        status: its HTTP status.
        raw: its body as it came; it may hold a login link, so no repr shows it.
        set_aside: what of the body could not be used.
    """

    body: T
    sent_at: datetime
    answered_at: datetime
    status: int = 200
    raw: bytes = field(default=b"", repr=False)
    set_aside: tuple[Unusable, ...] = ()


class Limited(Exception):
    """The vendor answered 429; inside this package only.

    Attributes:
        seconds: how long it told to wait, or None.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"429, told to wait {seconds} s")
        self.seconds = seconds


class _Refusal(msgspec.Struct):
    """The vendor's error body; of whatever types, because a proxy on the way may have written it."""

    success: Any = UNSET
    error: Any = None
    code: Any = None


_REFUSAL = msgspec.json.Decoder(_Refusal)


def decoder_of(shape: type[T]) -> Callable[[bytes], T]:
    """A function that decodes bodies of one shape, for `reader`."""
    decoder = msgspec.json.Decoder(shape)
    return lambda body: decode(decoder, body)


def reader(decode_body: Callable[[bytes], T]) -> Callable[[Reply], Answer[T]]:
    """A function that reads responses by a function that decodes their bodies; it raises what `read` raises."""
    return lambda reply: read(reply, decode_body)


def read(reply: Reply, decode_body: Callable[[bytes], T]) -> Answer[T]:
    """The answer, when it is one.

    Args:
        reply: any response.
        decode_body: raises `msgspec.ValidationError` for JSON of another shape, another `ValueError` for no JSON.

    Raises:
        Limited: 429.
        Fault: 408, 425, 5xx, an error without a code that came as a success, or a success whose body is not JSON: it
            may be asked again.
        UpstreamRejected: another 4xx, or an error of the vendor's that came as a success.
        UpstreamGarbled: anything that the vendor does not document.
    """
    require_success(reply)
    try:
        try:
            body = decode_body(reply.body)
        except msgspec.ValidationError:
            raise
        except ValueError:
            # One odd byte or piece in a page is no reason to lose the page.
            body = decode_body(mended(reply.body))
    except msgspec.ValidationError as error:
        raise UpstreamGarbled(f"{reply.request}: {error}") from None
    except ValueError as error:
        raise Fault(UpstreamGarbled(f"{reply.request}: the answer is not JSON: {error}")) from None
    return Answer(body, *interval(reply), reply.status, reply.body)


def require_success(reply: Reply) -> bool:
    """Raise what `read` raises for a response that is an error, by its HTTP status or by `success` in its body.

    Returns:
        Whether its body says `success`. One that does not is believed for its shape, where it has one.
    """
    if not 200 <= reply.status <= 299:
        raise _refused(reply)
    refusal = _error_body(reply)
    if refusal is not None and refusal.success is not UNSET and refusal.success is not True:
        raise _failed_success(reply, refusal)
    return refusal is not None and refusal.success is True


def refusal_code(reply: Reply) -> str:
    """The vendor's code in an error body; empty where it sent none."""
    refusal = _refusal(reply)
    return refusal.code if refusal and isinstance(refusal.code, str) else ""


def _refused(reply: Reply) -> Exception:
    if reply.status == 429:
        return Limited(told_to_wait(reply))
    if reply.status >= 500 or reply.status in _REPEATABLE_STATUSES:
        failed = UpstreamFailed(f"{reply.request}: the vendor answered {reply.status}{_words(reply)}")
        return Fault(_passing_on(failed, reply, reply.status), retry_after=retry_after(reply))
    if reply.status >= 400:
        return _passing_on(_rejection(reply), reply, reply.status)
    return UpstreamGarbled(f"{reply.request}: the answer is {reply.status}: is HEADSHOTPRO_API_URL right?")


def _failed_success(reply: Reply, refusal: _Refusal) -> Exception:
    """An error that came with a status of success: its code tells which one it is; without one it may pass."""
    code = refusal.code if isinstance(refusal.code, str) else ""
    status = _STATUS_OF_CODE.get(code, 0)
    message = f"{reply.request}: the vendor answered {reply.status} without success{_words(reply)}"
    if status == 429:
        return Limited(told_to_wait(reply))
    if status in (401, 403):
        return _passing_on(KeyRejected(status, code, message), reply, status)
    if status:
        # A 404 that came as a success is not the evidence that `ModelNotFound` is.
        return _passing_on(UpstreamRejected(status, code, message), reply, status)
    return Fault(_passing_on(UpstreamFailed(message), reply, 502), retry_after=retry_after(reply))


def _rejection(reply: Reply) -> UpstreamError:
    code = refusal_code(reply)
    words = f"{reply.request}: the vendor answered {reply.status}{_words(reply)}"
    if reply.status in (401, 403):
        return KeyRejected(reply.status, code, words)
    if reply.status == 407:
        return UpstreamUnreachable(f"{words}: the proxy wants another user or password: see HTTPS_PROXY, HTTP_PROXY")
    if reply.status == 404 and (not code or (reply.request.about_model and code != _NOT_FOUND)):
        # A proxy's or another server's 404 says nothing of the model, and must not help to bury it.
        return UpstreamGarbled(f"{words}, without the vendor's code {_NOT_FOUND}: is HEADSHOTPRO_API_URL right?")
    if reply.status == 404 and reply.request.about_model:
        return ModelNotFound(code, words, *interval(reply))
    return UpstreamRejected(reply.status, code, words)


def _passing_on(error: UpstreamError, reply: Reply, status: int) -> UpstreamError:
    """An error with the vendor's own words for those who pass them on, where it said some in its own form."""
    if _refusal(reply) is not None:
        headers = {name: value for name, value in reply.headers.items() if name.lower() in _PASSED_ON}
        error.said = Said(status, redact_bytes(reply.body), headers)
    return error


def _refusal(reply: Reply) -> _Refusal | None:
    """The error body, where it is one of the vendor's; else a proxy may have written it."""
    refusal = _error_body(reply)
    return refusal if refusal and (refusal.success is False or refusal.code or refusal.error) else None


def _error_body(reply: Reply) -> _Refusal | None:
    """The members of a body that report success or an error; None where it is no JSON object."""
    try:
        return decode(_REFUSAL, reply.body)
    except msgspec.ValidationError:
        return None
    except ValueError:
        with suppress(ValueError):
            return decode(_REFUSAL, mended(reply.body))
        return None


def _words(reply: Reply) -> str:
    """What the vendor says of an error, to go behind our own words, without anything private."""
    refusal = _refusal(reply)
    said = [part for part in (refusal.code, refusal.error) if isinstance(part, str)] if refusal else []
    # Before it is cut: the first half of a key is a secret, too.
    plain = redact(" ".join(": ".join(said).split()))[:_LONGEST_WORDS]
    return f" ({_PRIVATE.sub('…', plain)})" if plain else ""
