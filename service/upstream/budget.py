"""The vendor counts our requests; this shares them out among all our processes, the urgent ones first.

Every process asks Redis before each request. The window rolls, so however the vendor's own minutes lie, none of them
holds more of our requests than the share.

Why: `docs/decisions/0008-one-request-budget.md`.
"""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.broker.client import translate_redis_errors

if TYPE_CHECKING:
    import redis
    from redis.commands.core import Script

# Each Lua script decides in one step, so that two processes never grant the same request.
_SCRIPTS = Path(__file__).parent / "lua"
_KEYS = tuple(f"headshotpro:budget:{name}" for name in ("state", "all", "others"))

# The vendor's minute, and a moment for requests that reach it late. Where the whole limit is ours it is a second.
MINUTE_SECONDS = 60.0
LATE_SECONDS = 0.25
LATE_SECONDS_OF_WHOLE_LIMIT = 1.0
# `Date` is cut to seconds, so one reset comes as times that differ by that; less than the scripts' SAME_RESET.
SAME_RESET_SECONDS = 1.0
# Above this share of the limit, a few requests that are late could exceed it.
LARGEST_LOOSE_SHARE = 0.95


class Priority(Enum):
    """The purpose of a request, the most urgent first, and the share of the budget left to more urgent ones."""

    REFETCH = ("refetch", 0.0)
    DELETION = ("deletion", 0.02)
    HOT = ("hot", 0.05)
    FULL = ("full", 0.1)
    DETAIL = ("detail", 0.2)
    ACCURACY = ("accuracy", 0.25)

    def __init__(self, label: str, reserved: float) -> None:
        self.label = label
        self.reserved = reserved


class RequestBudget:
    """The requests that all our processes together may send.

    The limit is the vendor's newest `X-RateLimit-Limit`, 300 a minute until it has said one; of it `share` is ours, at
    least one request. A full pull that asked within the last minute keeps a quarter of that, and leaves the last tenth
    to refetches and deletion checks beyond it. One that needs more than a minute is spread over it, and leaves a
    hundredth.

    Raises:
        RedisUnavailable: by each method; Redis cannot be reached.
    """

    def __init__(
        self,
        client: redis.Redis,
        share: float,
        detail_share: float,
        accuracy_share: float = 0.0,
        *,
        window: float | None = None,
    ) -> None:
        """Share out `share` of the limit.

        Args:
            client: a connection to the Redis that all processes share.
            share: in (0, 1].
            detail_share: the most of that for `Priority.DETAIL`, in [0, 1]; 0: none.
            accuracy_share: the most of it for `Priority.ACCURACY`, in the same way.
            window: seconds over which requests are counted; a minute and a little if None.
        """
        self._share = share
        self._own_shares = {Priority.DETAIL: detail_share, Priority.ACCURACY: accuracy_share}
        late = LATE_SECONDS_OF_WHOLE_LIMIT if share > LARGEST_LOOSE_SHARE else LATE_SECONDS
        self._window = round((window or MINUTE_SECONDS + late) * 1000)
        # What Redis knew of the vendor's limit, as the last grant showed it: the arguments of `record_rate_limit`.
        self._known: tuple[int, int, float] = (0, 0, 0.0)
        self._acquire = _register(client, "acquire")
        self._record = _register(client, "record_rate_limit")
        self._block = _register(client, "block")
        self._left = _register(client, "requests_left")

    def acquire(self, priority: Priority, expected: int = 1) -> float:
        """Ask for a request to be sent now.

        Its work needs `expected` requests in all, as far as is known.

        Returns:
            Seconds to wait before asking again; 0.0: the request may be sent now, and is counted.
        """
        kind = "full" if priority is Priority.FULL else "other"
        shares = (self._share, self._own_shares.get(priority, -1), self._window)
        asked = (kind, priority.reserved, expected)
        wait, limit, remaining, reset = _run(self._acquire, *shares, *asked, purpose=priority)
        self._known = limit, remaining, time.time() + reset / 1000
        return int(wait) / 1000

    def record_rate_limit(self, limit: int, remaining: int, reset_at: float) -> None:
        """Take over the rate headers of a response, unless Redis knew them at the last grant.

        Args:
            limit: the vendor's requests a minute.
            remaining: how many of them it still takes until the reset, from any client of the organization.
            reset_at: the reset, Unix seconds of our clock.
        """
        known_limit, known_remaining, known_reset = self._known
        # For one reset the script keeps the least that remains, and grants count it down: more would change nothing.
        if limit != known_limit or remaining < known_remaining or abs(reset_at - known_reset) > SAME_RESET_SECONDS:
            _run(self._record, limit, remaining, _milliseconds_until(reset_at))

    def block(self, until: float) -> None:
        """Let no process send anything before a time (Unix seconds of our clock, an hour ahead at most)."""
        _run(self._block, _milliseconds_until(until))

    def requests_left(self) -> int:
        """How many requests could be sent at this moment."""
        return int(_run(self._left, self._share, self._window))


def _register(client: redis.Redis, name: str) -> Script:
    common, script = ((_SCRIPTS / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return client.register_script(common + script)


def _milliseconds_until(then: float) -> int:
    # Redis' clock need not be ours, so times travel as distances from now.
    return round((then - time.time()) * 1000)


def _run(script: Script, *arguments: Any, purpose: Priority = Priority.DETAIL) -> Any:
    with translate_redis_errors():
        return script(keys=(*_KEYS, f"headshotpro:budget:{purpose.label}"), args=arguments)
