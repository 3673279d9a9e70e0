"""A response's headers: when it was true, how many requests are left, how long to wait.

Three times of the vendor's may be wrong in three ways: its clock is off, it writes another form than it documents, or
a proxy wrote the header. Nothing here waits for longer than an hour, or for a negative time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from service.upstream.fields import utc

if TYPE_CHECKING:
    from service.upstream.transport import TransportResponse

# `Date` is cut to whole seconds, and the response may come from a replica that lags behind.
_BEFORE = timedelta(seconds=2)
_AFTER = timedelta(seconds=1)
_CUT_SECONDS = 1.0

# A clock that is further off than this is not believed. NTP keeps machines within a second; the tolerance of webhook
# signatures is minutes.
MAX_SKEW = timedelta(minutes=1)

# The longest wait that a header can ask for.
MAX_WAIT_SECONDS = 3600.0

# More than any two times of the calendar are apart.
_LONGEST_SKEW_SECONDS = 10.0**12

_NUMBER = re.compile(r"([0-9]{1,15})(?:\.[0-9]{0,9})?(?=\s*(?:[,;]|$))")

# A reset is given as a time (ISO 8601, as the vendor documents), or, as other vendors do, as seconds from now, Unix
# seconds or Unix milliseconds. Numbers between these ranges are no time that any vendor means.
_LARGEST_DELTA = 10**7
_UNIX_SECONDS = (10**9, 10**10)
_UNIX_MILLISECONDS = (10**12, 10**13)


def response_interval(response: TransportResponse) -> tuple[datetime, datetime]:
    """Between which two times, on the vendor's clock, the response was read from its data.

    The request was sent at most `elapsed` before the vendor wrote `Date`, and the response was whole at most `elapsed`
    after it. Without a `Date`, or with one that is off by more than `MAX_SKEW`, our own clock is used.
    """
    elapsed = timedelta(seconds=response.elapsed)
    date = _date(response)
    skew = clock_skew(response)
    if date is None or skew is None or abs(skew) > MAX_SKEW:
        date = _ours(response)
    return date - elapsed - _BEFORE, date + elapsed + _AFTER


def clock_skew(response: TransportResponse) -> timedelta | None:
    """The vendor's clock minus the local one, as far as it is known; None without a `Date`.

    The vendor wrote `Date` while we waited, so that any time from the sending to the last byte is no skew. A response
    that a cache kept was written `Age` seconds before that (RFC 9111).
    """
    date = _date(response)
    if date is None:
        return None
    # In seconds, because a time at the end of the calendar leaves no room to add to it.
    ahead = (date - _ours(response)).total_seconds() + (_number(response, "Age") or 0.0)
    if ahead < 0:
        ahead = min(ahead + response.elapsed + _CUT_SECONDS, 0.0)
    return timedelta(seconds=min(ahead, _LONGEST_SKEW_SECONDS))


def parse_rate_limit(response: TransportResponse) -> tuple[int, int, float] | None:
    """The rate headers as `RequestBudget.record_rate_limit` takes them; None where one is missing or makes no sense."""
    limit, remaining = (_number(response, f"X-RateLimit-{name}") for name in ("Limit", "Remaining"))
    reset = _reset_in(response)
    if not limit or remaining is None or reset is None:
        return None
    return int(limit), int(remaining), response.received_unix_time + reset


def rate_limit_wait(response: TransportResponse) -> float | None:
    """Seconds to wait after a 429, at most an hour: until its reset, or its `Retry-After` if that is later.

    None where it has neither, or only times that are over.
    """
    waits = [
        seconds for seconds in (_reset_in(response), _retry_after(response)) if seconds is not None and seconds > 0
    ]
    return min(max(waits), MAX_WAIT_SECONDS) if waits else None


def retry_after(response: TransportResponse) -> float | None:
    """Seconds to wait after a fault by its `Retry-After`, at most an hour; None where it has none in the future.

    The reset of the rate limit is in every response of the vendor, so it does not count here.
    """
    seconds = _retry_after(response)
    return min(seconds, MAX_WAIT_SECONDS) if seconds is not None and seconds > 0 else None


def _retry_after(response: TransportResponse) -> float | None:
    """Seconds of a `Retry-After`, which is a number or a date (RFC 9110)."""
    seconds = _number(response, "Retry-After")
    if seconds is not None:
        return seconds
    date = _parsed(response.headers.get("Retry-After", ""))
    return None if date is None else (date - _upstream_now(response)).total_seconds()


def _reset_in(response: TransportResponse) -> float | None:
    """Seconds from the response to the reset.

    `Date` is cut, so this is up to a second too long, which is the safe side.
    """
    text = response.headers.get("X-RateLimit-Reset", "").strip()
    number = _number(response, "X-RateLimit-Reset")
    if number is None:
        try:
            reset = utc(msgspec.convert(text, datetime))
        except (msgspec.ValidationError, ValueError):
            return None
    elif number <= _LARGEST_DELTA:
        return number
    elif _UNIX_SECONDS[0] <= number < _UNIX_SECONDS[1]:
        reset = datetime.fromtimestamp(number, UTC)
    elif _UNIX_MILLISECONDS[0] <= number < _UNIX_MILLISECONDS[1]:
        reset = datetime.fromtimestamp(number / 1000, UTC)
    else:
        return None
    return (reset - _upstream_now(response)).total_seconds()


def _upstream_now(response: TransportResponse) -> datetime:
    """The vendor's clock at its response, right or wrong: the response's other times are by the same clock."""
    return _date(response) or _ours(response)


def _date(response: TransportResponse) -> datetime | None:
    return _parsed(response.headers.get("Date", ""))


# Each response's `Date` is read several times, and is that of the response before for up to a second.
@lru_cache(maxsize=16)
def _parsed(text: str) -> datetime | None:
    """An HTTP date in UTC; None where it is none."""
    try:
        return utc(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None


def _ours(response: TransportResponse) -> datetime:
    return datetime.fromtimestamp(response.received_unix_time, UTC)


def _number(response: TransportResponse, name: str) -> float | None:
    """The number that a header is, or begins with: proxies join repeated ones by a comma, and some add a policy."""
    match = _NUMBER.match(response.headers.get(name, "").strip())
    return float(match[0]) if match else None
