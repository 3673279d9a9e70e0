"""The drain's threads: a deep inbox is applied in several transactions at once, and read on while they are at it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

from service.mirror.batches import LANES, assign_lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Self

    from service.broker.inbox import InboxEntry


class LanePool:
    """Threads of which each applies its share of one batch after the other.

    A lane that is done with its share begins with that of the next batch at once: while one waits for Postgres to
    commit, another computes. What is told of one model stays in one lane, so it is applied in its order.
    """

    def __init__(self, apply: Callable[[list[InboxEntry]], None]) -> None:
        """Begin with none in hand.

        Args:
            apply: applies a share; its log lines name the job, too.
        """
        self._apply = apply
        self._lanes = [ThreadPoolExecutor(1) for _ in range(LANES)]
        self._in_flight: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Wait for what is under way, and raise what ended it unless something else is being raised."""
        for lane in self._lanes:
            lane.shutdown()
        if kind is None:
            _wait(self._in_flight)

    def apply(self, entries: Sequence[InboxEntry], *, more: bool) -> None:
        """Apply a batch; a large one that more will follow is still under way when this returns, the one before is not.

        Args:
            entries: the batch.
            more: the inbox surely held more.

        Raises:
            Exception: whatever ended one of them.
        """
        shares = assign_lanes(entries)
        # Few entries go into one lane, whatever models they tell of: nothing may be before them in another, nor behind.
        together = len(shares) < LANES
        before = self._in_flight
        if together:
            _wait(before)
        self._in_flight = [
            lane.submit(copy_context().run, self._apply, share)
            for lane, share in zip(self._lanes, shares, strict=False)
            if share
        ]
        _wait(before)
        # Of an inbox that is not deep, the next batch is larger the later it is read.
        if together or not more:
            _wait(self._in_flight)


def _wait(shares: Sequence[Future[None]]) -> None:
    for share in shares:
        share.result()
