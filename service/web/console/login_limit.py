"""Slows down guessing of passwords, by address. Each web process counts for itself, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from time import monotonic
from typing import NamedTuple

from service.web.auth import network_of

# This many wrong passwords cost no wait; each further one doubles it.
FREE_FAILURES = 5
LONGEST_WAIT_SECONDS = 300.0
# Without a wrong password for this long an address begins anew.
FORGET_SECONDS = 3600.0
MAX_ADDRESSES = 10_000


class _Failures(NamedTuple):
    number: int
    newest: float


class LoginLimit:
    """How long each address has to wait until its next password is looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # The address whose newest failure is oldest comes first, and is forgotten first.
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def seconds_to_wait(self, address: str) -> float:
        """Seconds until a password from this address is looked at; 0 where it may be now."""
        with self._lock:
            found = self._failures.get(network_of(address))
            if found is None or found.number < FREE_FAILURES:
                return 0.0
            wait: float = min(LONGEST_WAIT_SECONDS, 2.0 ** (found.number - FREE_FAILURES))
            return max(0.0, found.newest + wait - monotonic())

    def note_failure(self, address: str) -> int:
        """Count a wrong password, and return how many came from this address."""
        now, network = monotonic(), network_of(address)
        with self._lock:
            while self._failures and next(iter(self._failures.values())).newest < now - FORGET_SECONDS:
                self._failures.popitem(last=False)
            found = self._failures.pop(network, _Failures(0, now))
            self._failures[network] = _Failures(found.number + 1, now)
            if len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)
            return found.number + 1

    def note_success(self, address: str) -> None:
        """Let an address begin anew."""
        with self._lock:
            self._failures.pop(network_of(address), None)
