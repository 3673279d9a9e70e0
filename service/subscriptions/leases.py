"""The subscriptions that the sender of one process has leased, and how far each is, as Postgres is to know it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from service.storage import subscription_feed
from service.storage.database import transaction
from service.subscriptions.state import SubscriptionState
from service.subscriptions.window import ACTIVE, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from service.subscriptions.policy import SenderTiming, SendingPolicy

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Leases:
    """The leases of one process.

    Each method raises `PostgresUnavailable` where it is: what is known stays until the leases run out by themselves.

    Attributes:
        holder: this process, in leases.
        states: the leased subscriptions by their numbers.
        next_sync: when to renew them, on the monotonic clock.
    """

    engine: Engine
    holder: str
    policy: SendingPolicy
    timing: SenderTiming
    states: dict[int, SubscriptionState] = field(default_factory=dict)
    next_sync: float = float("-inf")
    _synced_at: float = float("-inf")

    @property
    def open(self) -> list[SubscriptionState]:
        """Those to which something may be sent."""
        return [state for state in self.states.values() if not state.closing]

    @property
    def hold(self) -> bool:
        """Whether a request that begins now has surely ended when another process may have the lease."""
        return time.monotonic() - self._synced_at <= self.timing.lease - self.timing.request

    def sync(self) -> None:
        """Write the progress, renew the leases, and take up what people changed."""
        began, now = time.monotonic(), time.time()
        for state in self.states.values():
            _judge(state, now)
        over = [state for state in self.states.values() if state.closing and not state.window.in_flight]
        to_write = [state for state in self.states.values() if state.dirty or state in over]
        with transaction(self.engine) as connection:
            written = subscription_feed.write_progress(
                connection, self.holder, [state.progress(release=state in over) for state in to_write]
            )
            rows = {row["id"]: row for row in subscription_feed.lease(connection, self.holder, self.timing.lease)}
            new = {number for number in rows if number not in self.states or self.states[number] in over}
            waiting = {number: subscription_feed.waiting(connection, number) for number in new}
        self._synced_at, self.next_sync = began, began + self.timing.sync
        _mark_written(to_write, written)
        for state in over:
            del self.states[state.row["id"]]
        for state in self.states.values():
            _renew(state, rows.get(state.row["id"]))
        for number in new:
            self._open(rows[number], waiting[number])

    def store_batches(self, states: Sequence[SubscriptionState]) -> set[int]:
        """Write down which changes a new batch carries: its next try has to carry the same.

        Returns:
            The subscriptions for which nothing was written, because their lease is lost or a person changed them.
        """
        unstored = [state for state in states if state.row["batch"] and state.window.unstored]
        if not unstored:
            return set()
        with transaction(self.engine) as connection:
            written = subscription_feed.write_progress(
                connection, self.holder, [state.progress() for state in unstored]
            )
        _mark_written(unstored, written)
        return {state.row["id"] for state in unstored} - written

    def release(self) -> None:
        """Write the progress, and give the leases back."""
        # A lease with a request in flight runs out by itself, too, after the request has ended.
        last = [state.progress(release=not state.window.in_flight) for state in self.states.values()]
        with transaction(self.engine) as connection:
            subscription_feed.write_progress(connection, self.holder, last)

    def _open(self, row: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> None:
        window = Window(self.policy, row["read_to"], row["batch"], row["state"])
        window.load(waiting)
        self.states[row["id"]] = SubscriptionState(row, window)
        log.info("subscription.leased", subscription=row["name"], cursor=window.cursor)


def _judge(state: SubscriptionState, now: float) -> None:
    window, before = state.window, state.window.state
    window.judge(now)
    if window.state != before:
        write = log.info if window.state == ACTIVE else log.warning
        write(f"subscription.{window.state}", subscription=state.row["name"], reason=window.reason)


def _mark_written(states: Sequence[SubscriptionState], written: set[int]) -> None:
    for state in states:
        if state.row["id"] in written:
            state.mark_written()


def _renew(state: SubscriptionState, row: Mapping[str, Any] | None) -> None:
    """Go on with a subscription as it is now; one that is paused, removed, changed or lost is closed."""
    state.closing = row is None or row["version"] != state.row["version"]
    if row is not None and not state.closing:
        state.row = row
