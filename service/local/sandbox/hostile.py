"""How a hostile vendor answers: which requests go wrong, how, and how late."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from service.local.sandbox.switches import Switches

# refused: 500, and nothing was done; failed: 500 although it was done; truncated: half of the JSON as if it were all of
# it; cut: the connection ends in mid-body; dropped: it ends without an answer.
VendorFault = Literal["refused", "failed", "truncated", "cut", "dropped"]
FAULTS: tuple[VendorFault, ...] = ("refused", "failed", "truncated", "cut", "dropped")


class FaultInjector:
    """Draws faults and delays from a source of chance of its own, so that they do not change who is born when."""

    def __init__(self, switches: Switches, rng: Random) -> None:
        self._switches = switches
        self._rng = rng

    def fault(self) -> VendorFault | None:
        """The fault of this request, if it has one."""
        return self._rng.choice(FAULTS) if self._happens(self._switches.errors) else None

    def drifts(self) -> bool:
        """Whether the list changes before this request reads it."""
        return self._happens(self._switches.drift)

    def delays(self) -> tuple[float, float]:
        """Seconds before the request is worked on, and between that and its answer: one of them is 0."""
        delay = self._rng.uniform(0, self._switches.slow)
        return (delay, 0.0) if self._happens(0.5) else (0.0, delay)

    def lag(self) -> int:
        """Milliseconds by which the replica that this request meets is behind."""
        return int(self._rng.uniform(0, self._switches.replica_lag) * 1000)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._rng.random() < share


def broken_body(body: bytes, fault: Literal["cut", "dropped"]) -> Iterator[bytes]:
    """A response's body that ends the connection: the web server takes this error for a client that went away.

    Raises:
        ConnectionResetError: always, after half of the body or before anything was sent.
    """
    if fault == "cut":
        yield body[: len(body) // 2]
    raise ConnectionResetError(errno.ECONNRESET, "dropped on purpose")
