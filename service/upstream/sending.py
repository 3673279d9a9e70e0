"""How one call reaches the upstream: it waits for its turn, is tried again where that is safe, and is counted."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import InboxUnavailable
from service.upstream.headers import clock_skew, rate
from service.upstream.responses import Answer, Limited
from service.upstream.retry import Effort
from service.upstream.transport import Fault, Request, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from service.upstream.budget import Budget, Priority
    from service.upstream.transport import Reply

T = TypeVar("T")

# An error about one model may ask for no longer wait; one about the list holds all processes for up to an hour.
LONGEST_MODEL_WAIT_SECONDS = 60.0


def ignored(*_shown: object) -> None:
    """Observes nothing: the default."""


@dataclass(frozen=True, slots=True)
class Observers:
    """Functions that are called with what requests show.

    Attributes:
        request: called with each try: its route, its status (`unreachable` where there was no response), its seconds.
        wait: called each time that the budget was spent: what the request was for, how many seconds it waited (none
            where it was given up).
        clock: called with each response: how far the upstream's clock is ahead of ours; None where it sent no `Date`.
    """

    request: Callable[[str, int | str, float], None] = ignored
    wait: Callable[[Priority, float], None] = ignored
    clock: Callable[[timedelta | None], None] = ignored


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and how to read its answer.

    Attributes:
        read: reads the first answer.
        read_again: reads one that comes after a fault.
        repeatable: doing it twice is as good as once.
    """

    request: Request
    read: Callable[[Reply], Answer[T]]
    read_again: Callable[[Reply], Answer[T]]
    repeatable: bool = True


class Sender:
    """Sends the calls of one client.

    Args:
        wire: the connections.
        budget: shared with all our processes; None where there is no Redis.
        pause: waits a number of seconds; may raise `Stopping`.
        observers: what is called with what requests show.
    """

    def __init__(self, wire: Wire, budget: Budget | None, pause: Callable[[float], None], observers: Observers) -> None:
        self._wire = wire
        self._budget = budget
        self._pause = pause
        self._observers = observers

    def send(self, call: Call[T], priority: Priority, patience: float | None) -> Answer[T]:
        """Try until there is an answer: wait for a turn, send, then read, wait or give up."""
        effort = Effort(patience, self._pause)
        while True:
            self._await_turn(priority, effort)
            try:
                reply = self._exchange(call.request)
                return (call.read_again if effort.faults else call.read)(reply)
            except Limited as limited:
                self._hold(effort, effort.after_limited(limited.seconds))
            except Fault as fault:
                self._after(fault, call, effort)

    def _after(self, fault: Fault, call: Call[T], effort: Effort) -> None:
        """Wait before the next try, at least for `Retry-After`; raise the fault's error where no try is left."""
        if fault.may_have_arrived and not call.repeatable:
            raise fault.error from None
        effort.failed(fault.error)
        if fault.retry_after is None:
            effort.back_off(fault.error)
        elif call.request.about_model:
            # One odd model must hold up neither the other processes nor, for long, whoever asks about it.
            effort.back_off(fault.error, min(fault.retry_after, LONGEST_MODEL_WAIT_SECONDS))
        else:
            self._hold(effort, fault.retry_after)

    def _await_turn(self, priority: Priority, effort: Effort) -> None:
        while self._budget is not None and (seconds := self._budget.acquire(priority)) > 0:
            before = time.monotonic()
            try:
                effort.nap(seconds)
            finally:
                self._observers.wait(priority, time.monotonic() - before)

    def _hold(self, effort: Effort, seconds: float) -> None:
        """Wait until the vendor takes requests again: with a budget all processes wait together, at their next turn."""
        if self._budget is None:
            effort.wait(seconds)
        else:
            self._budget.block(time.time() + seconds)

    def _exchange(self, request: Request) -> Reply:
        before = time.monotonic()
        try:
            reply = self._wire.exchange(request)
        except Fault:
            self._observers.request(str(request), "unreachable", time.monotonic() - before)
            raise
        self._observers.request(str(request), reply.status, reply.elapsed)
        self._observers.clock(clock_skew(reply))
        told = rate(reply)
        if self._budget is not None and told is not None:
            # A response that arrived is not lost because Redis is unavailable; the next turn raises that.
            with suppress(InboxUnavailable):
                self._budget.note(told.limit, told.remaining, told.reset_at)
        return reply
