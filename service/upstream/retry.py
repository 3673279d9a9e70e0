"""The retry policy of one call: how long it may wait, and how often it is sent again after faults."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from math import inf
from random import SystemRandom
from typing import TYPE_CHECKING

from service.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.errors import UpstreamError

MAX_ATTEMPTS = 4
_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 8.0

# After a 429 without a time the wait becomes longer each time, up to this.
_MAX_DEFAULT_RATE_LIMIT_WAIT = 30.0

# Longest nap while the budget is spent: in between the call asks again, which keeps a full pull's quarter reserved.
MAX_NAP_SECONDS = 5.0

_RANDOM = SystemRandom()


class RetryPolicy:
    """One call's tries and waits. It keeps count; `pause` does the waiting.

    Attributes:
        failures: tries that failed so far.
    """

    def __init__(self, max_wait: float | None, pause: Callable[[float], None]) -> None:
        """Start the clock: the call may wait and try again for `max_wait` seconds; None is no limit.

        `pause` waits a number of seconds, and may raise `Stopping`.
        """
        self._deadline = None if max_wait is None else time.monotonic() + max_wait
        self._pause = pause
        self._limited = 0
        self.failures = 0

    def wait(self, seconds: float, nap: float = inf) -> None:
        """Wait until the budget, or the vendor after a 429, allows the next request.

        Args:
            seconds: how long that takes as far as is known.
            nap: the longest that this call waits; after a shorter wait the caller finds out again.

        Raises:
            Throttled: the request would be sent after `max_wait`.
        """
        if not self._allows(seconds):
            retry_at = datetime.now(UTC) + timedelta(seconds=seconds)
            raise Throttled(
                f"the request budget, or the vendor's limit, is spent: the next request may be sent in {seconds:.1f} s",
                retry_at,
            )
        self._pause(min(seconds, nap))

    def rate_limit_delay(self, requested_wait: float | None) -> float:
        """Seconds to wait after one more 429; `requested_wait` is from its headers."""
        self._limited += 1
        without_header = min(_FIRST_BACKOFF * 2.0 ** min(self._limited - 1, 16), _MAX_DEFAULT_RATE_LIMIT_WAIT)
        return max(requested_wait or 0.0, without_header)

    def count_failure(self, error: UpstreamError) -> None:
        """Count one more fault.

        Raises:
            UpstreamError: the one given, when no try is left.
        """
        self.failures += 1
        if self.failures >= MAX_ATTEMPTS:
            raise error from None

    def back_off(self, error: UpstreamError, requested_wait: float = 0.0) -> None:
        """Wait, longer after each fault and never quite as long as another process, before the next try.

        It waits `requested_wait` seconds at least, from the vendor's `Retry-After`.

        Raises:
            UpstreamError: the one given, when the wait would end after `max_wait`.
        """
        longest = min(_FIRST_BACKOFF * 2.0 ** (self.failures - 1), _MAX_BACKOFF)
        seconds = max(requested_wait, _RANDOM.uniform(longest / 2, longest))
        if not self._allows(seconds):
            raise error from None
        self._pause(seconds)

    def _allows(self, seconds: float) -> bool:
        return self._deadline is None or time.monotonic() + seconds <= self._deadline
