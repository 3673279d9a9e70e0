"""A circuit breaker: after a failure, calls of that server fail at once for a moment, without waiting for a timeout."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from service.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

# After a failure calls are refused for this long, and longer after a slow failure; then one call tries for all.
OPEN_SECONDS = 1.0
SLOW_FAILURE_FACTOR = 2.0


class CircuitBreaker:
    """Guards calls of one server, in all threads of a process.

    A call that is refused raises `unavailable`, which names the server.
    """

    def __init__(self, unavailable: type[Unavailable], server: str) -> None:
        self._unavailable = unavailable
        self._server = server
        self._open_until = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let a call through, unless the server was found down a moment ago.

        Raises:
            Unavailable: the call raised it, or was refused.
        """
        now = monotonic()
        if now < self._open_until:
            raise self._unavailable(f"{self._server} was down a moment ago")
        if self._open_until:
            # This call tries for all; meanwhile the others are refused.
            self._open_until = now + OPEN_SECONDS
        try:
            yield
        except Unavailable:
            failed = monotonic()
            self._open_until = failed + max(OPEN_SECONDS, SLOW_FAILURE_FACTOR * (failed - now))
            raise
        self._open_until = 0.0
