"""The thread that sends: it leases subscriptions, reads the feed for them, sends, and writes down how far each is.

All that is known of a subscription belongs to this one thread (`window`); only requests run in threads of their own. So
a receiver that hangs keeps nothing but its own few requests waiting. Any clock process may run a sender: the leases in
Postgres decide which one sends to a subscription. After a process was killed, another one goes on when its leases end,
from what was last written: what was acknowledged within the last second before is sent again.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from service.errors import PostgresUnavailable, SchemaOutdated
from service.subscriptions import message
from service.subscriptions.feed import READ_LIMIT, FeedReader
from service.subscriptions.leases import Leases
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.receiver import outcome_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from service.subscriptions.deliveries import Delivery
    from service.subscriptions.receiver import ReceiverClient, SendOutcome
    from service.subscriptions.state import SubscriptionState

log = structlog.get_logger(__name__)

# While Postgres is unavailable, requests that are due cannot be sent: the loop then waits this long, and does not spin.
SHORTEST_WAIT = 0.005


class _Result(NamedTuple):
    state: SubscriptionState
    delivery: Delivery
    outcome: SendOutcome
    began: float
    seconds: float
    recorded_at: Sequence[float]


@dataclass(slots=True)
class SubscriptionSender:
    """The sender of one process; `run` is its thread.

    Attributes:
        holder: this process, in leases.
        observe: called with the outcome of each request (`receiver.OUTCOMES`) and, where it was acknowledged, with the
            seconds from the row of each of its changes to the response.
    """

    engine: Engine
    client: ReceiverClient
    holder: str
    policy: SendingPolicy = field(default_factory=SendingPolicy)
    timing: SenderTiming = field(default_factory=SenderTiming)
    observe: Callable[[str, Sequence[float]], None] = lambda _outcome, _seconds: None
    _leases: Leases = field(init=False)
    _feed: FeedReader = field(init=False)
    _results: queue.SimpleQueue[_Result] = field(default_factory=queue.SimpleQueue)
    _next_poll: float = float("-inf")
    _quiet_from: float = float("-inf")

    def __post_init__(self) -> None:
        """Nothing is leased yet."""
        self._leases = Leases(self.engine, self.holder, self.policy, self.timing)
        self._feed = FeedReader(self.engine, self.timing.fresh)

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; then give requests in flight a moment, and write down how far each is."""
        while not stop.is_set():
            try:
                self.tick()
            except (PostgresUnavailable, SchemaOutdated) as error:
                log.warning("subscriptions.wait", error=str(error))
                stop.wait(self.timing.sync)
            except Exception as error:  # noqa: BLE001 - without this thread nothing would be sent
                # By its kind alone: the message of a failed statement may hold people's data.
                log.error("subscriptions.failed", error=type(error).__name__)
                stop.wait(self.timing.sync)
        self._finish()

    def tick(self) -> None:
        """One round: results, leases and progress, the feed, requests.

        Raises:
            PostgresUnavailable: it is unavailable; what is known stays until the leases end.
        """
        self._wait()
        if time.monotonic() >= self._leases.next_sync:
            self._leases.sync()
        if not self._leases.states:
            return
        if time.monotonic() >= self._next_poll:
            self._poll()
        self._feed.read_for(self._leases.open)
        if self._leases.hold:
            self._send_due()

    def _poll(self) -> None:
        """Find out whether there are new changes: often while they come, less often after a quiet moment."""
        began = time.monotonic()
        self._next_poll = began + self.timing.poll
        if self._feed.poll(self._leases.open):
            self._quiet_from = began + self.timing.lively
        if began < self._quiet_from:
            self._next_poll = began + self.timing.quick_poll

    # --- results

    def _wait(self) -> None:
        """Wait for results until something else is due, and take those that are there."""
        due = min((state.window.wakes_at() for state in self._leases.open), default=float("inf")) - time.time()
        next_round = self._next_poll if self._leases.states else self._leases.next_sync
        until = min(due, next_round - time.monotonic(), self.timing.sync)
        try:
            self._take(self._results.get(timeout=max(until, SHORTEST_WAIT)))
            while True:
                self._take(self._results.get_nowait())
        except queue.Empty:
            return

    def _take(self, result: _Result) -> None:
        state, delivery, outcome, began, seconds, recorded_at = result
        name, now = state.row["name"], time.time()
        state.record_request(delivery, began, seconds, outcome)
        ended = began + seconds
        latencies = [max(0.0, ended - recorded) for recorded in recorded_at] if outcome.taken else []
        self.observe(outcome_name(outcome), latencies)
        if outcome.taken:
            state.window.acknowledged(delivery, now)
            return
        if outcome.gone:
            state.window.gone(delivery, now)
            log.warning("subscription.disabled", subscription=name, reason=state.window.reason)
            return
        state.window.failed(delivery, now, outcome.status, outcome.error, outcome.retry_after)
        log.info(
            "subscription.request_failed",
            subscription=name,
            change_id=delivery.first,
            attempts=delivery.attempts,
            status=outcome.status,
            error=outcome.error,
        )

    # --- requests

    def _send_due(self) -> None:
        now, states = time.time(), self._leases.open
        due = [(state, delivery) for state in states for delivery in state.window.take_due(now)]
        if not due:
            return
        sending = list({id(state): state for state, _ in due}.values())
        try:
            lost = self._leases.store_batches(sending)
            upcoming = (number for state in sending for number in state.window.upcoming(READ_LIMIT // len(sending)))
            wanted = [change.change_id for _, delivery in due for change in delivery.changes]
            changes = self._feed.changes(wanted, upcoming)
        except Exception:
            for state, delivery in due:
                state.window.put_back(delivery, now)
            raise
        # Postgres may have taken its time: requests begin only while the lease outlasts them.
        held = self._leases.hold
        for state, delivery in due:
            if not held or state.row["id"] in lost:
                state.window.put_back(delivery, now)
                continue
            try:
                self._send(state, delivery, changes)
            except Exception as error:  # noqa: BLE001 - what cannot be sent must not stay in flight for ever
                state.window.failed(delivery, now, None, f"not sent: {type(error).__name__}")

    def _send(self, state: SubscriptionState, delivery: Delivery, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Begin the request of a delivery in a thread of its own."""
        row = state.row
        carried = [changes[change.change_id] for change in delivery.changes if change.change_id in changes]
        if not carried:
            # Retention removed them while the subscription was disabled.
            state.window.acknowledged(delivery, time.time(), counts=False)
            return
        body = message.body(carried, batch=bool(row["batch"]), personal=row["with_personal_data"])
        message_id = message.message_id(row["id"], row["replays"], delivery.first)
        recorded_at = [change["recorded_at"].timestamp() for change in carried]

        def send() -> None:
            began, clock = time.time(), time.monotonic()
            outcome = self.client.send(row["url"], message_id, body, state.secrets)
            seconds = time.monotonic() - clock
            self._results.put(_Result(state, delivery, outcome, began, seconds, recorded_at))

        threading.Thread(target=send, name="subscription", daemon=True).start()

    # --- the end

    def _finish(self) -> None:
        """Wait a moment for requests in flight, then write the progress and give the leases back."""
        deadline = time.monotonic() + self.timing.last
        states = self._leases.states.values()
        for state in states:
            state.closing = True
        try:
            while any(state.window.in_flight for state in states) and time.monotonic() < deadline:
                self._wait()
            self._leases.release()
        except (PostgresUnavailable, SchemaOutdated) as error:
            log.warning("subscriptions.not_released", error=str(error))
        self.client.close()
