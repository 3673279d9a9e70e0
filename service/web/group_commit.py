"""Deliveries that wait for Redis at the same time go there together: one round trip, and one `fsync`, for all of them.

A round trip for each would be most of what the endpoint does. So one is under way at a time; deliveries that come
meanwhile wait in a queue, and the first of it then takes all others along. A delivery that is alone does not wait.

Why: `docs/decisions/0012-group-commit-to-redis.md`.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from service.broker.inbox import PutResult
from service.broker.jobs import Job
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    from service.broker.inbox import Delivery, Inbox

# A group has this many bytes at most: Redis has to take them within its timeout.
MAX_GROUP_BYTES = 1024 * 1024


@dataclass(slots=True, eq=False)
class _PendingDelivery:
    """One delivery that is to be put.

    Attributes:
        is_ready: set when its outcome is known, or when it is to lead the next group.
        outcome: how many entries the stream held after it, or why it is not there; None while neither is known.
    """

    delivery: Delivery
    is_ready: threading.Event
    outcome: int | RedisUnavailable | None = None


class GroupCommit:
    """The inbox for many requests at once; the drain's flag is raised in the same round trip."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        # Guards the attributes below; held for a moment only.
        self._lock = threading.Lock()
        self._waiters: deque[_PendingDelivery] = deque()
        self._has_leader = False

    def put(self, delivery: Delivery) -> PutResult:
        """Take a delivery; it is safe when this returns.

        Returns:
            As `Inbox.put`; of one group, only one delivery gets the news that the flag was raised.

        Raises:
            RedisUnavailable: Redis did not take it, or did not confirm it in time.
        """
        pending = _PendingDelivery(delivery, threading.Event())
        with self._lock:
            self._waiters.append(pending)
            waits, self._has_leader = self._has_leader, True
        if waits:
            pending.is_ready.wait()
        flag_raised = pending.outcome is None and self._lead()
        if not isinstance(pending.outcome, int):
            raise RedisUnavailable(str(pending.outcome))
        return PutResult(pending.outcome, flag_raised)

    def _lead(self) -> bool:
        """Put the next group, wake its requests and the next leader: whether the flag was raised."""
        group = self._take_group(MAX_GROUP_BYTES)
        outcome: int | RedisUnavailable = RedisUnavailable("this process was interrupted")
        flag_raised = False
        try:
            outcome, flag_raised = self._inbox.put(*(one.delivery for one in group), wake=Job.DRAIN)
        except RedisUnavailable as error:
            outcome = error
            # Deliveries that came meanwhile waited for the same timeout: the error is theirs, too.
            group += self._take_group()
        finally:
            # Also where this was interrupted: no request may wait for it in vain.
            for one in group:
                one.outcome = outcome
                one.is_ready.set()
            self._pass_on_lead()
        return flag_raised

    def _take_group(self, most_bytes: float = inf) -> list[_PendingDelivery]:
        """Take the next group out of the queue."""
        group: list[_PendingDelivery] = []
        size = 0
        with self._lock:
            while self._waiters and size < most_bytes:
                group.append(self._waiters.popleft())
                size += len(group[-1].delivery.body)
        return group

    def _pass_on_lead(self) -> None:
        """Make the first delivery in the queue the next leader; where it is empty, the next one that comes."""
        with self._lock:
            self._has_leader = bool(self._waiters)
            if self._waiters:
                self._waiters[0].is_ready.set()
