"""How much of a web process the console may take: deliveries come first, however many consoles are open."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog
from flask import g
from werkzeug.exceptions import ServiceUnavailable

from service.errors import MirrorError
from service.web.errors import RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = structlog.get_logger(__name__)

ValueT = TypeVar("ValueT")

# Requests of one web process that work at a time, and seconds that another one waits for its turn.
MAX_REQUESTS = 4
WAIT_SECONDS = 3.0
# Under gevent this lasts until all others have had their turn; `sleep(0)` may end before that.
YIELD_SECONDS = 0.001
# Seconds that a page waits for figures that take long, before it shows the last ones.
REFRESH_SECONDS = 0.5
# Rows of a page that are made in a turn: about half a millisecond of processor time, as long as a delivery takes.
ROWS_IN_A_TURN = 5


def give_way() -> None:
    """Let deliveries go first, in the middle of a long page; a web process does one thing at a time."""
    # Looked up in its module, where gevent replaces it.
    time.sleep(YIELD_SECONDS)


def in_turns(rows: Iterable[ValueT]) -> Iterator[ValueT]:
    """The same rows, each used before the next one is asked for: deliveries go first after each few of them."""
    for number, row in enumerate(rows, 1):
        yield row
        if number % ROWS_IN_A_TURN == 0:
            give_way()


class RequestSlots:
    """Lets a few requests of the console work at a time; the others wait, and are refused after a moment."""

    def __init__(self, slots: int = MAX_REQUESTS, refusal: str = "Too many pages are being made: try again.") -> None:
        self._refusal = refusal
        self._free = threading.BoundedSemaphore(slots)

    def take(self) -> None:
        """Before a request works.

        Raises:
            ServiceUnavailable: all slots stay taken.
        """
        self._acquire(WAIT_SECONDS)
        g.console_slot = True

    def give_back(self, _error: BaseException | None = None) -> None:
        """After its response, or after the end of a stream that keeps the request's context."""
        if g.pop("console_slot", False):
            self._free.release()

    @contextmanager
    def turn(self, wait_seconds: float) -> Iterator[None]:
        """A slot for a part of a request that gave its own back.

        Raises:
            ServiceUnavailable: all slots stay taken.
        """
        self._acquire(wait_seconds)
        try:
            yield
        finally:
            self._free.release()

    def _acquire(self, wait_seconds: float) -> None:
        if not self._free.acquire(timeout=wait_seconds):
            raise ServiceUnavailable(self._refusal, retry_after=RETRY_AFTER_SECONDS)


class Cached(Generic[ValueT]):
    """A value that all requests of a process share, so that many open consoles cost as much as one.

    Args:
        read: reads it; one request does so at a time, and the others wait for it.
    """

    def __init__(self, read: Callable[[], ValueT], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: tuple[float, ValueT] | None = None

    def get(self) -> ValueT:
        """The value, at most as old as that."""
        with self._lock:
            if self._value is None or time.monotonic() - self._value[0] > self._seconds:
                self._value = (time.monotonic(), self._read())
            return self._value[1]


class Refreshed(Generic[ValueT]):
    """A value that may take long to read: a thread reads the next one; a request that waited gets the last one.

    Args:
        first: gives a value at once while none was read; None where it cannot.
    """

    def __init__(self, read: Callable[[], ValueT], first: Callable[[], ValueT | None], seconds: float) -> None:
        self._read = read
        self._first = first
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: ValueT | None = None
        self._due = 0.0

    def get(self) -> ValueT:
        """The newest value; the one before where it takes longer than `REFRESH_SECONDS` to read."""
        with self._lock:
            if self._value is None:
                self._value = self._first()
            if self._value is None:
                self._value, self._due = self._read(), time.monotonic() + self._seconds
            elif time.monotonic() > self._due:
                self._due = time.monotonic() + self._seconds
                refresh = threading.Thread(target=self._refresh, daemon=True)
                refresh.start()
                # The last one may be hours old: from when a page was last open.
                refresh.join(REFRESH_SECONDS)
            return self._value

    def _refresh(self) -> None:
        try:
            self._value = self._read()
        except MirrorError as error:
            log.warning("console.refresh_failed", reason=str(error))
