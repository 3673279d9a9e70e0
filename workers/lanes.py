"""The drain's threads: a deep inbox is applied in several transactions at once, and read on while they are at it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING

from service.mirror.lanes import LANES, share_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor, Future
    from typing import Self

    from service.inbox import Entry


class Lanes:
    """Threads of which each applies its share of one batch after the other.

    A lane that is done with its share begins with that of the next batch at once: while one waits for Postgres to
    commit, another computes. What is told of one model stays in one lane, so it is applied in its order.
    """

    def __init__(self, apply: Callable[[list[Entry]], None]) -> None:
        """Begin with none in hand.

        Args:
            apply: applies a share; its log lines name the job, too.
        """
        self._apply = apply
        self._lanes: list[Executor] = []
        self._batches: deque[list[Future[None]]] = deque()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._lanes = [self._open.enter_context(ThreadPoolExecutor(1)) for _ in range(LANES)]
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def begin(self, entries: Sequence[Entry]) -> None:
        """Apply a batch behind those that are in hand; one of few entries is waited for.

        Raises:
            Exception: whatever ended one of those before.
        """
        shares = share_out(entries)
        # Few entries go into one lane, whatever models they tell of: nothing may be before them in another, nor behind.
        together = len(shares) < LANES
        if together:
            self.wait()
        begun = [
            lane.submit(copy_context().run, self._apply, share)
            for lane, share in zip(self._lanes, shares, strict=False)
            if share
        ]
        self._batches.append(begun)
        if together:
            self.wait()

    def wait(self, but: int = 0) -> None:
        """Wait until all batches but the newest few are applied.

        Raises:
            Exception: whatever ended one of them.
        """
        while len(self._batches) > but:
            for share in self._batches.popleft():
                share.result()
