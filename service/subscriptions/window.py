"""The changes of one subscription between being read from the feed and being acknowledged. Pure: time is an argument.

A change that was read waits in its model's queue. A delivery is what one request carries: one change, or a batch. It
makes its models busy until it is acknowledged, so no two requests that carry one model are under way together, and the
changes of a model go out in the order of their ids. A delivery that failed is sent again with the same changes.

```
read ──> queued ──> in flight ──2xx──> acknowledged
                      ^    │ failure
                      └── waits for its retry
```
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from service.subscriptions.deliveries import Delivery, QueuedChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.subscriptions.policy import SendingPolicy

ACTIVE, FAILING, DISABLED = "active", "failing", "disabled"


@dataclass(slots=True)
class Window:
    """One subscription's changes that are read and not acknowledged.

    Attributes:
        read_to: changes up to this id were read.
        batch: how many changes a request carries at most; None: one.
        state: `active`, `failing` or `disabled`.
        reason: why it is not active.
        in_flight: requests that are under way.
        delivered: changes that were acknowledged since the progress was last written.
        failure: status and reason of the last failure since then.
        unstored: changes whose row in `subscription_deliveries` is missing, or differs from what is known here.
    """

    policy: SendingPolicy
    read_to: int
    batch: int | None = None
    state: str = ACTIVE
    reason: str | None = None
    in_flight: int = 0
    delivered: int = 0
    failure: tuple[int | None, str] | None = None
    unstored: set[int] = field(default_factory=set)
    _stored: set[int] = field(default_factory=set)
    _acknowledged: set[int] = field(default_factory=set)
    _waiting: dict[int, Delivery | QueuedChange] = field(default_factory=dict)
    _queues: dict[str, deque[QueuedChange]] = field(default_factory=dict)
    _heads: list[QueuedChange] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _failing: dict[int, Delivery] = field(default_factory=dict)
    _retries: list[tuple[float, int, Delivery]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _failures: int = 0
    _down_until: float | None = None

    # --- what comes in

    def load(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up what had not been acknowledged before: rows of `subscription_deliveries` in the order of changes."""
        batches: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows:
            self._stored.add(row["change_id"])
            if row["batch"] is not None or row["attempts"]:
                batches.setdefault(row["batch"] or row["change_id"], []).append(row)
            else:
                self._queue(QueuedChange(row["change_id"], row["model_id"]))
        for carried in batches.values():
            delivery = Delivery.from_rows(carried)
            self._open(delivery)
            self._retry(delivery)
            if delivery.attempts:
                self._failing[delivery.first] = delivery

    def add(self, changes: Iterable[QueuedChange], read_to: int) -> None:
        """Take changes that were read from the feed, of which the last that was read is `read_to`."""
        for change in changes:
            self.unstored.add(change.change_id)
            self._queue(change)
        self.read_to = read_to

    @property
    def room(self) -> int:
        """How many more changes may be read."""
        return max(0, self.policy.window - len(self._waiting))

    def hungry(self, many: int) -> bool:
        """Whether more should be read: there is room for many changes, or for some and nothing else could be sent.

        A reading costs a transaction, so one for each change that was acknowledged would cost more than the requests.
        """
        return self.room >= many or (not self._heads and self.room > 0)

    def upcoming(self, limit: int) -> list[int]:
        """The changes that could be sent next, apart from those that were sent already."""
        return [change.change_id for change in heapq.nsmallest(limit, self._heads)]

    @property
    def cursor(self) -> int:
        """The lowest change that is not acknowledged, or that was not read yet."""
        return min(self._waiting, default=self.read_to + 1)

    # --- what goes out

    def take_due(self, now: float) -> list[Delivery]:
        """The deliveries to send now; each counts as in flight until its result is given to a method below."""
        due: list[Delivery] = []
        while self.state != DISABLED and (delivery := self._next(now)):
            self.in_flight += 1
            due.append(delivery)
        return due

    def wakes_at(self) -> float:
        """When something may be due without any result or change in between; infinity where nothing will be."""
        if self.state == DISABLED or self.in_flight >= self.policy.parallel:
            return float("inf")
        if self._down_until is not None:
            return self._down_until if self._waiting and not self.in_flight else float("inf")
        return self._retries[0][0] if self._retries else float("inf")

    def _next(self, now: float) -> Delivery | None:
        if self._down_until is not None:
            if self.in_flight or now < self._down_until:
                return None
            # Any will do; one that keeps failing alone must not be the only one that is tried.
            return self._form() or self._pop_retry()
        if self.in_flight >= self.policy.parallel:
            return None
        if self._retries and self._retries[0][0] <= now:
            return self._pop_retry()
        # Small batches would only cost requests: while one is under way, the next one fills up.
        if self.batch and self.in_flight and len(self._heads) < self.batch:
            return None
        return self._form()

    def _pop_retry(self) -> Delivery | None:
        return heapq.heappop(self._retries)[2] if self._retries else None

    def _form(self) -> Delivery | None:
        """A delivery of changes that were not sent yet, of models that no other delivery carries."""
        carried: list[QueuedChange] = []
        while self._heads and len(carried) < (self.batch or 1):
            change = heapq.heappop(self._heads)
            queue = self._queues.get(change.model_id)
            if change.model_id in self._busy or not queue or queue[0] != change:
                # It comes back, or came back, when the delivery that carries its model is acknowledged.
                continue
            queue.popleft()
            carried.append(change)
            if queue and self.batch:
                heapq.heappush(self._heads, queue[0])
        if not carried:
            return None
        delivery = Delivery(carried)
        self._open(delivery)
        if self.batch:
            # The next try has to carry the same changes, also from another process.
            self.unstored.update(change.change_id for change in carried)
        return delivery

    # --- results

    def acknowledged(self, delivery: Delivery, now: float, *, counts: bool = True) -> None:
        """The receiver took it; `counts` is False where its changes do not exist any more."""
        self.in_flight -= 1
        self._failing.pop(delivery.first, None)
        for change in delivery.changes:
            del self._waiting[change.change_id]
            self._acknowledged.add(change.change_id)
            self.unstored.discard(change.change_id)
        self.delivered += len(delivery.changes) if counts else 0
        for model_id in {change.model_id for change in delivery.changes}:
            self._busy.discard(model_id)
            queue = self._queues.get(model_id)
            if queue:
                heapq.heappush(self._heads, queue[0])
            else:
                self._queues.pop(model_id, None)
        self._failures = 0
        if self._down_until is not None:
            self._down_until = None
            # These failed because the receiver was down, not because of their content.
            for _, _, waiting in self._retries:
                waiting.due_at = now
            self._retries = [(now, number, waiting) for _, number, waiting in self._retries]

    def failed(
        self, delivery: Delivery, now: float, status: int | None, error: str, retry_after: float | None = None
    ) -> None:
        """There was no response, or one that acknowledges nothing."""
        self.in_flight -= 1
        delivery.attempts += 1
        delivery.first_failed_at = delivery.first_failed_at or now
        delivery.due_at = now + self.policy.retry_pause(delivery.attempts, retry_after)
        delivery.status, delivery.error = status, error
        self.failure = (status, error)
        self.unstored.update(change.change_id for change in delivery.changes)
        self._failing[delivery.first] = delivery
        self._retry(delivery)
        # Requests that were under way together fail together: that is one try.
        if self._down_until is None or now >= self._down_until:
            self._failures += 1
            probes = self._failures - self.policy.failures_until_down
            if probes >= 0:
                self._down_until = now + self.policy.probe_pause(probes)

    def put_back(self, delivery: Delivery, now: float) -> None:
        """It was not sent after all."""
        self.in_flight -= 1
        delivery.due_at = now
        self._retry(delivery)

    def gone(self, delivery: Delivery, now: float) -> None:
        """The receiver responded 410: it wants no more requests."""
        self.failed(delivery, now, 410, "410: the receiver wants no more requests")
        self.state, self.reason = DISABLED, "the receiver responded 410"

    def judge(self, now: float) -> None:
        """Set the state by the time for which the oldest failing delivery has failed."""
        if self.state == DISABLED:
            return
        oldest = min(self._failing.values(), key=lambda one: one.first_failed_at or now, default=None)
        since = now - (oldest.first_failed_at or now) if oldest else 0.0
        if oldest is None or since < self.policy.failing_after:
            self.state, self.reason = ACTIVE, None
            return
        self.state = DISABLED if since >= self.policy.disabled_after else FAILING
        self.reason = f"change {oldest.first} has failed {oldest.attempts} times: {oldest.error}"

    # --- progress

    def unwritten(self) -> tuple[list[int], list[dict[str, Any]]]:
        """Acknowledged changes whose rows are to be deleted, and rows of `subscription_deliveries` to be written."""
        gone = sorted(self._acknowledged & self._stored)
        # From here on: if the connection breaks on commit, these rows may exist although `written` is not called.
        self._stored |= self.unstored
        return gone, [self._row(change_id) for change_id in sorted(self.unstored)]

    def written(self) -> None:
        """Note that Postgres has what `unwritten` returned, and the counts."""
        self._stored -= self._acknowledged
        self.unstored.clear()
        self._acknowledged.clear()
        self.delivered, self.failure = 0, None

    def _row(self, change_id: int) -> dict[str, Any]:
        waiting = self._waiting[change_id]
        return waiting.row() if isinstance(waiting, QueuedChange) else waiting.row(change_id, batch=bool(self.batch))

    # --- parts

    def _queue(self, change: QueuedChange) -> None:
        self._waiting[change.change_id] = change
        queue = self._queues.setdefault(change.model_id, deque())
        queue.append(change)
        if len(queue) == 1 and change.model_id not in self._busy:
            heapq.heappush(self._heads, change)

    def _open(self, delivery: Delivery) -> None:
        for change in delivery.changes:
            self._waiting[change.change_id] = delivery
            self._busy.add(change.model_id)

    def _retry(self, delivery: Delivery) -> None:
        heapq.heappush(self._retries, (delivery.due_at, next(self._numbers), delivery))
