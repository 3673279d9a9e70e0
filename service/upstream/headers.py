"""What an answer's headers tell: when it was true, on the vendor's clock, and how many requests are left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from service.upstream.fields import utc

if TYPE_CHECKING:
    from service.upstream.wire import Reply

# `Date` is cut to whole seconds, and what answered may be a replica that lags behind.
_BEFORE = timedelta(seconds=2)
_AFTER = timedelta(seconds=1)

_SANE_YEARS = (2000, 9000)

_DIGITS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Rate:
    """The vendor's rate headers.

    Attributes:
        limit: requests a minute for the whole organization.
        remaining: how many of them are left.
        reset_at: until when, Unix seconds of our clock.
    """

    limit: int
    remaining: int
    reset_at: float


def interval(reply: Reply) -> tuple[datetime, datetime]:
    """Between which two times, on the vendor's clock, the answer was read from its data.

    The request was sent at most `elapsed` before the vendor wrote `Date`, and the answer was whole at most `elapsed`
    after it. Without a `Date` our own clock stands in.
    """
    elapsed = timedelta(seconds=reply.elapsed)
    date = _date(reply)
    return date - elapsed - _BEFORE, date + elapsed + _AFTER


def rate(reply: Reply) -> Rate | None:
    """The rate headers; None where one is missing or makes no sense."""
    limit, remaining = (_number(reply, f"X-RateLimit-{name}") for name in ("Limit", "Remaining"))
    reset = _reset_in(reply)
    if not limit or remaining is None or reset is None:
        return None
    return Rate(limit, remaining, reply.answered + reset)


def told_to_wait(reply: Reply) -> float | None:
    """Seconds that a 429 tells to wait: until its reset, else its `Retry-After`; None where it tells neither."""
    reset = _reset_in(reply)
    if reset is not None:
        return reset
    seconds = _number(reply, "Retry-After")
    return None if seconds is None else float(seconds)


def _reset_in(reply: Reply) -> float | None:
    """Seconds from the answer to the reset: both times are the vendor's, so that no skew of ours counts.

    `Date` is cut, so this is up to a second too long, which is the safe side.
    """
    text = reply.headers.get("X-RateLimit-Reset", "")
    try:
        return (utc(msgspec.convert(text, datetime)) - _date(reply)).total_seconds()
    except (msgspec.ValidationError, ValueError):
        return None


def _date(reply: Reply) -> datetime:
    """The vendor's clock when it answered, or ours where it sent no `Date` that could be one."""
    try:
        date = utc(parsedate_to_datetime(reply.headers.get("Date", "")))
    except (ValueError, TypeError, OverflowError):
        return _ours(reply)
    return date if _SANE_YEARS[0] <= date.year <= _SANE_YEARS[1] else _ours(reply)


def _ours(reply: Reply) -> datetime:
    return datetime.fromtimestamp(reply.answered, UTC)


def _number(reply: Reply, name: str) -> int | None:
    text = reply.headers.get(name, "").strip()
    return int(text) if _DIGITS.fullmatch(text) else None
