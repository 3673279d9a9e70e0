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
from service.storage import subscription_feed
from service.storage.database import transaction
from service.subscriptions import message
from service.subscriptions.deliveries import QueuedChange
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.state import SubscriptionState
from service.subscriptions.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from service.subscriptions.deliveries import Delivery
    from service.subscriptions.receiver import ReceiverClient, SendOutcome

log = structlog.get_logger(__name__)


READ_LIMIT = 200
# While Postgres is unavailable, requests that are due cannot be sent: the loop then waits this long, and does not spin.
SHORTEST_WAIT = 0.005


class _Result(NamedTuple):
    state: SubscriptionState
    delivery: Delivery
    outcome: SendOutcome


@dataclass(slots=True)
class SubscriptionSender:
    """The sender of one process; `run` is its thread.

    Attributes:
        engine: the mirror's Postgres.
        client: sends requests.
        holder: this process, in leases.
        policy: limits of each subscription.
        timing: how often and how long.
    """

    engine: Engine
    client: ReceiverClient
    holder: str
    policy: SendingPolicy = field(default_factory=SendingPolicy)
    timing: SenderTiming = field(default_factory=SenderTiming)
    _states: dict[int, SubscriptionState] = field(default_factory=dict)
    _results: queue.SimpleQueue[_Result] = field(default_factory=queue.SimpleQueue)
    _recent: dict[int, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    _synced_at: float = float("-inf")
    _next_sync: float = float("-inf")
    _next_poll: float = float("-inf")
    _newest: int = 0

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
        if time.monotonic() >= self._next_sync:
            self._sync()
        if not self._states:
            return
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + self.timing.poll
            with transaction(self.engine) as connection:
                self._newest = subscription_feed.newest_change(connection)
        self._read_feed()
        self._send_due()

    # --- results

    def _wait(self) -> None:
        """Wait for results until something else is due, and hand on those that are there."""
        open_states = [state for state in self._states.values() if not state.closing]
        due = min((state.window.wakes_at() for state in open_states), default=float("inf")) - time.time()
        next_round = self._next_poll if self._states else self._next_sync
        until = min(due, next_round - time.monotonic(), self.timing.sync)
        try:
            self._take(self._results.get(timeout=max(until, SHORTEST_WAIT)))
            while True:
                self._take(self._results.get_nowait())
        except queue.Empty:
            return

    def _take(self, result: _Result) -> None:
        state, delivery, outcome = result
        name, now = state.row["name"], time.time()
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

    # --- leases and progress

    def _sync(self) -> None:
        """Write the progress, renew the leases, and take up what people changed."""
        began, now = time.monotonic(), time.time()
        for state in self._states.values():
            state.window.judge(now)
        over = [state for state in self._states.values() if state.closing and not state.window.in_flight]
        to_write = [state for state in self._states.values() if state.dirty or state in over]
        with transaction(self.engine) as connection:
            written = subscription_feed.write_progress(
                connection, self.holder, [state.progress(release=state in over) for state in to_write]
            )
            rows = {row["id"]: row for row in subscription_feed.lease(connection, self.holder, self.timing.lease)}
            new = {number for number in rows if number not in self._states or self._states[number] in over}
            waiting = {number: subscription_feed.waiting(connection, number) for number in new}
        self._synced_at, self._next_sync = began, began + self.timing.sync
        for state in to_write:
            if state.row["id"] in written:
                state.mark_written()
        for state in over:
            del self._states[state.row["id"]]
        for state in self._states.values():
            self._renew(state, rows.get(state.row["id"]))
        for number in new:
            self._open(rows[number], waiting[number])

    def _renew(self, state: SubscriptionState, row: Mapping[str, Any] | None) -> None:
        """Go on with a subscription as it is now; one that is paused, removed, changed or lost is closed."""
        state.closing = row is None or row["version"] != state.row["version"]
        if row is not None and not state.closing:
            state.row = row

    def _open(self, row: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> None:
        window = Window(self.policy, row["read_to"], row["batch"], row["state"])
        window.load(waiting)
        self._states[row["id"]] = SubscriptionState(row, window)
        log.info("subscription.leased", subscription=row["name"], cursor=window.cursor)

    # --- the feed

    def _read_feed(self) -> None:
        """Read what is new for each subscription that has room; those at the same place share one reading."""
        pages: dict[int, list[dict[str, Any]]] = {}
        for state in self._states.values():
            window = state.window
            if state.closing or not window.room or window.read_to >= self._newest:
                continue
            if window.read_to not in pages:
                with transaction(self.engine) as connection:
                    pages[window.read_to] = subscription_feed.read_after(connection, window.read_to, READ_LIMIT)
                now = time.monotonic()
                self._recent.update((change["id"], (now, change)) for change in pages[window.read_to])
            page = pages[window.read_to][: window.room]
            admitted = filter(state.change_filter.admits, page)
            changes = [QueuedChange(change["id"], change["model_id"]) for change in admitted]
            window.add(changes, page[-1]["id"] if page else self._newest)

    def _changes(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """Changes with their rows: those read just now, and all others as they are now."""
        oldest = time.monotonic() - self.timing.fresh
        self._recent = {number: entry for number, entry in self._recent.items() if entry[0] >= oldest}
        missing = sorted({number for number in ids if number not in self._recent})
        found: dict[int, Mapping[str, Any]] = {
            number: self._recent[number][1] for number in ids if number in self._recent
        }
        if missing:
            with transaction(self.engine) as connection:
                found.update((change["id"], change) for change in subscription_feed.read(connection, missing))
        return found

    # --- requests

    def _send_due(self) -> None:
        # A request that begins now must have ended when another process may have the lease.
        if time.monotonic() - self._synced_at > self.timing.lease - self.timing.request:
            return
        now = time.time()
        due = [
            (state, delivery)
            for state in self._states.values()
            if not state.closing
            for delivery in state.window.take_due(now)
        ]
        if not due:
            return
        try:
            lost = self._store_batches([state for state, _ in due])
            changes = self._changes([change.change_id for _, delivery in due for change in delivery.changes])
        except Exception:
            for state, delivery in due:
                state.window.put_back(delivery, now)
            raise
        for state, delivery in due:
            if state.row["id"] in lost:
                state.window.put_back(delivery, now)
                continue
            try:
                self._send(state, delivery, changes)
            except Exception as error:  # noqa: BLE001 - what cannot be sent must not stay in flight for ever
                state.window.failed(delivery, now, None, f"not sent: {type(error).__name__}")

    def _store_batches(self, states: Sequence[SubscriptionState]) -> set[int]:
        """Write down which changes a new batch carries: its next try has to carry the same.

        Returns:
            The subscriptions for which nothing was written, because their lease is lost or a person changed them.
        """
        batching = [state for state in {id(one): one for one in states}.values() if state.row["batch"]]
        unstored = [state for state in batching if state.window.unstored]
        if not unstored:
            return set()
        with transaction(self.engine) as connection:
            written = subscription_feed.write_progress(
                connection, self.holder, [state.progress() for state in unstored]
            )
        for state in unstored:
            if state.row["id"] in written:
                state.mark_written()
        return {state.row["id"] for state in unstored} - written

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

        def send() -> None:
            outcome = self.client.send(row["url"], message_id, body, state.secrets)
            self._results.put(_Result(state, delivery, outcome))

        threading.Thread(target=send, name="subscription", daemon=True).start()

    # --- the end

    def _finish(self) -> None:
        """Wait a moment for requests in flight, then write the progress and give the leases back."""
        deadline = time.monotonic() + self.timing.last
        for state in self._states.values():
            state.closing = True
        try:
            while any(state.window.in_flight for state in self._states.values()) and time.monotonic() < deadline:
                self._wait()
            # A lease with a request in flight runs out by itself, after the request has ended.
            last = [state.progress(release=not state.window.in_flight) for state in self._states.values()]
            with transaction(self.engine) as connection:
                subscription_feed.write_progress(connection, self.holder, last)
        except (PostgresUnavailable, SchemaOutdated) as error:
            log.warning("subscriptions.not_released", error=str(error))
        self.client.close()
