"""The vendor's rate limit: a fixed window, counted for the whole organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.local.sandbox.model import iso

if TYPE_CHECKING:
    from service.local.sandbox.switches import Switches

# The limit in the headers where the switch `rate` is 0.
UNLIMITED = 1_000_000


class RateDecision(NamedTuple):
    """The rate headers of one response; `reset` is the end of the window in milliseconds."""

    allowed: bool
    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """The three headers that every answer carries."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": iso(self.reset),
        }


class RateWindow:
    """Counts requests; a window begins with the first request after the last one ended."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._used = 0
        self._reset = 0

    def take(self, now: int) -> RateDecision:
        """Ask for one request at `now` (milliseconds). One that is refused costs nothing."""
        grant = self.peek(now)
        if grant.allowed:
            self._used += 1
            return grant._replace(remaining=grant.remaining - 1)
        return grant

    def peek(self, now: int) -> RateDecision:
        """The result that `take` would have, and what is left before it."""
        if now >= self._reset:
            self._used, self._reset = 0, now + int(self._switches.rate_window * 1000)
        unlimited = self._switches.rate == 0
        limit = UNLIMITED if unlimited else self._switches.rate
        remaining = max(0, limit - self._used)
        return RateDecision(unlimited or remaining > 0, limit, remaining, self._reset)
