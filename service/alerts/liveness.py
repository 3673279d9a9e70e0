"""The alert evaluator's memory between two evaluations: heartbeats, events applied, refused signatures.

Kept in memory, because a row does not show whether an evaluator ran meanwhile: after an outage of Postgres every
heartbeat is old, and no worker is missing. So the memory begins anew after a gap between evaluations.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from service.broker import counters
from service.broker.counters import DELIVERIES, EVENTS
from service.broker.inbox import Inbox
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import redis


# A wrong secret refuses every delivery; one or two a minute are anyone who tries the endpoint.
SIGNATURES_WITHIN = timedelta(seconds=60)


class InboxLiveness(NamedTuple):
    """The state of the inbox, from Redis.

    Attributes:
        oldest_seconds: age of the oldest event in it; None where it is empty.
        processed: how many events all drains have processed so far, whatever became of them.
        refused: how many deliveries had a wrong signature so far.
        accepted: how many deliveries were accepted so far.
    """

    oldest_seconds: float | None
    processed: float
    refused: float = 0
    accepted: float = 0


def read_inbox_liveness(client: redis.Redis) -> InboxLiveness | None:
    """The state of the inbox; None while Redis is unavailable."""
    try:
        oldest = Inbox(client).depth().oldest_seconds
        counted = counters.read(client)
    except RedisUnavailable:
        return None
    return InboxLiveness(
        oldest,
        sum(number for labels, number in counted.items() if labels[0] == EVENTS),
        refused=counted.get((DELIVERIES, "forged"), 0),
        accepted=counted.get((DELIVERIES, "accepted"), 0),
    )


class LivenessTracker:
    """The memory of one evaluator. Times are of Postgres' clock, and passed in."""

    def __init__(self) -> None:
        self._missed_since: datetime | None = None
        self._applied_at: datetime | None = None
        self._processed: float | None = None
        self._counts: deque[tuple[datetime, InboxLiveness]] = deque()
        self._accepted_at_refusal: float | None = None

    def reset(self) -> None:
        """Begin anew: no evaluation ran for a while."""
        self._missed_since = self._applied_at = self._processed = self._accepted_at_refusal = None
        self._counts.clear()

    def update(
        self,
        now: datetime,
        worker_seen_at: datetime | None,
        spooled_since: datetime | None,
        inbox: InboxLiveness | None,
    ) -> Mapping[str, Any]:
        """Add an evaluation.

        Args:
            now: its time.
            worker_seen_at: the newest heartbeat of a worker that has a row.
            spooled_since: when the oldest event in the spool was accepted.
            inbox: None while Redis is unavailable.

        Returns:
            The fields of `AlertFacts` that follow from it.
        """
        self._missed_since = max(filter(None, (self._missed_since or now, worker_seen_at)))
        waiting = [spooled_since] if spooled_since else []
        applying = False
        if inbox is None:
            self._applied_at = self._processed = None
        else:
            applying = self._processed is not None and inbox.processed != self._processed
            self._applied_at = now if applying else self._applied_at or now
            self._processed = inbox.processed
            if inbox.oldest_seconds is not None:
                waiting.append(now - timedelta(seconds=inbox.oldest_seconds))
        return {
            "worker_seen_at": worker_seen_at,
            "worker_missed_since": self._missed_since,
            "waiting_since": min(waiting, default=None),
            "applied_at": self._applied_at,
            "applying": applying,
            **(self._count_signatures(now, inbox) if inbox else {}),
        }

    def _count_signatures(self, now: datetime, inbox: InboxLiveness) -> Mapping[str, Any]:
        """Wrong signatures within the last minute, and whether a delivery was accepted after the newest of them."""
        if self._accepted_at_refusal is None or inbox.refused != self._counts[-1][1].refused:
            self._accepted_at_refusal = inbox.accepted
        self._counts.append((now, inbox))
        while now - self._counts[0][0] > SIGNATURES_WITHIN:
            self._counts.popleft()
        return {
            # Counts begin anew where Redis lost them.
            "refused_signatures": max(0, int(inbox.refused - self._counts[0][1].refused)),
            "accepted_signatures": max(0, int(inbox.accepted - self._counts[0][1].accepted)),
            "accepted_since_refusal": inbox.accepted > self._accepted_at_refusal,
        }
