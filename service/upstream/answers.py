"""From an HTTP answer to what the caller asked for, or to one of our errors. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from service.errors import KeyRejected, ModelNotFound, Said, UpstreamFailed, UpstreamGarbled, UpstreamRejected
from service.redaction import redact_bytes
from service.upstream.headers import interval, told_to_wait
from service.upstream.json_text import decode
from service.upstream.wire import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from service.upstream.records import Unusable
    from service.upstream.wire import Reply

T = TypeVar("T")

# E-mail addresses and links: the vendor's words may repeat what was sent, and our messages end up in logs.
_PRIVATE = re.compile(r"\S*(?:@|://)\S*")

_LONGEST_WORDS = 300

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

    success: Any = None
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

    Raises:
        Limited: 429.
        Fault: 5xx, or a success whose body is not JSON: it may be asked again.
        UpstreamRejected: another 4xx.
        UpstreamGarbled: anything that the vendor does not document.
    """
    if not 200 <= reply.status <= 299:
        raise _refused(reply)
    try:
        return Answer(decode_body(reply.body), *interval(reply), reply.status, reply.body)
    except msgspec.ValidationError as error:
        raise UpstreamGarbled(f"{reply.request}: {error}") from None
    except ValueError as error:
        raise Fault(UpstreamGarbled(f"{reply.request}: the answer is not JSON: {error}")) from None


def refusal_code(reply: Reply) -> str:
    """The vendor's code in an error body; empty where it sent none."""
    refusal = _refusal(reply)
    return refusal.code if refusal and isinstance(refusal.code, str) else ""


def _refused(reply: Reply) -> Exception:
    if reply.status == 429:
        return Limited(told_to_wait(reply))
    if reply.status >= 500:
        failed = UpstreamFailed(f"{reply.request}: the vendor answered {reply.status}{_words(reply)}")
        failed.said = _said(reply)
        return Fault(failed)
    if reply.status >= 400:
        rejection = _rejection(reply)
        rejection.said = _said(reply)
        return rejection
    return UpstreamGarbled(f"{reply.request}: the answer is {reply.status}: is HEADSHOTPRO_API_URL right?")


def _rejection(reply: Reply) -> UpstreamRejected | UpstreamGarbled:
    code = refusal_code(reply)
    words = f"{reply.request}: the vendor answered {reply.status}{_words(reply)}"
    if reply.status in (401, 403):
        return KeyRejected(reply.status, code, words)
    if reply.status == 404 and reply.request.about_model:
        # A proxy's or another server's 404 says nothing of the model, and must not help to bury it.
        if _refusal(reply) is None:
            return UpstreamGarbled(f"{words}, without the vendor's error body: is HEADSHOTPRO_API_URL right?")
        return ModelNotFound(code, words, *interval(reply))
    return UpstreamRejected(reply.status, code, words)


def _said(reply: Reply) -> Said | None:
    """The answer for those who pass it on; None where it is not in the vendor's form: a proxy may have written it."""
    if _refusal(reply) is None:
        return None
    headers = {name: value for name, value in reply.headers.items() if name.lower() in _PASSED_ON}
    return Said(reply.status, redact_bytes(reply.body), headers)


def _refusal(reply: Reply) -> _Refusal | None:
    """The error body, where it is one of the vendor's."""
    try:
        refusal = decode(_REFUSAL, reply.body)
    except ValueError:
        return None
    return refusal if refusal.success is False or refusal.code or refusal.error else None


def _words(reply: Reply) -> str:
    """What the vendor says of an error, to go behind our own words, without anything private."""
    refusal = _refusal(reply)
    said = [part for part in (refusal.code, refusal.error) if isinstance(part, str)] if refusal else []
    plain = " ".join(": ".join(said).split())[:_LONGEST_WORDS]
    return f" ({_PRIVATE.sub('…', plain)})" if plain else ""
