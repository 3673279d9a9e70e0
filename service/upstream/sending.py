"""How one call reaches the upstream: it waits for its turn, is tried again where that is safe, and is counted."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import RedisUnavailable
from service.upstream.headers import clock_skew, parse_rate_limit
from service.upstream.responses import RateLimited, UpstreamResponse
from service.upstream.retry import MAX_NAP_SECONDS, RetryPolicy
from service.upstream.transport import HttpTransport, RetryableError, UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from service.upstream.budget import Priority, RequestBudget
    from service.upstream.transport import TransportResponse

T = TypeVar("T")

# After an error about one model a call waits no longer; one about the list holds all processes for up to an hour.
MAX_MODEL_WAIT_SECONDS = 60.0


def ignore(*_shown: object) -> None:
    """Observes nothing: the default."""


@dataclass(frozen=True, slots=True)
class RequestObservers:
    """Functions that are called with what requests show.

    Attributes:
        request: called with each try: its route, its status (`unreachable` where there was no response), its seconds.
        wait: called each time that the budget was spent: what the request was for, how many seconds it waited (none
            where it was given up).
        clock: called with each response: the upstream's clock minus the local one; None where it sent no `Date`.
    """

    request: Callable[[str, int | str, float], None] = ignore
    wait: Callable[[Priority, float], None] = ignore
    clock: Callable[[timedelta | None], None] = ignore


NO_OBSERVERS = RequestObservers()


@dataclass(frozen=True, slots=True)
class UpstreamCall(Generic[T]):
    """A request and how to read its response.

    Attributes:
        read_again: reads one that comes after a fault; None: as the first one.
        repeatable: doing it twice is as good as once.
        expected: how many requests the caller's work needs in all, as far as it knows.
    """

    request: UpstreamRequest
    read: Callable[[TransportResponse], UpstreamResponse[T]]
    read_again: Callable[[TransportResponse], UpstreamResponse[T]] | None = None
    repeatable: bool = True
    expected: int = 1


class RequestSender:
    """Sends the calls of one client, over its connections; the other arguments are those of `UpstreamClient`."""

    def __init__(
        self,
        transport: HttpTransport,
        budget: RequestBudget | None,
        pause: Callable[[float], None],
        observers: RequestObservers,
    ) -> None:
        self._transport = transport
        self._budget = budget
        self._pause = pause
        self._observers = observers

    def send(self, call: UpstreamCall[T], priority: Priority, max_wait: float | None) -> UpstreamResponse[T]:
        """Try until a response is final: wait for a turn, send, then read, wait or give up."""
        policy = RetryPolicy(max_wait, self._pause)
        while True:
            self._await_turn(priority, policy, call.expected)
            try:
                response = self._exchange(call.request)
                read = call.read_again if policy.failures and call.read_again else call.read
                return read(response)
            except RateLimited as limited:
                self._wait_for_upstream(policy, policy.rate_limit_delay(limited.seconds))
            except RetryableError as failure:
                self._wait_before_retry(failure, call, policy)

    def _wait_before_retry(self, failure: RetryableError, call: UpstreamCall[T], policy: RetryPolicy) -> None:
        """Wait before the next try, at least for `Retry-After`; raise the fault's error where no try is left."""
        if failure.may_have_arrived and not call.repeatable:
            raise failure.error from None
        policy.count_failure(failure.error)
        if failure.retry_after is None:
            policy.back_off(failure.error)
        elif call.request.about_model:
            # One odd model must hold up neither the other processes nor, for long, its own caller.
            policy.back_off(failure.error, min(failure.retry_after, MAX_MODEL_WAIT_SECONDS))
        else:
            self._wait_for_upstream(policy, failure.retry_after)

    def _await_turn(self, priority: Priority, policy: RetryPolicy, expected: int) -> None:
        """Wait until the budget grants a request, where there is one."""
        while self._budget and (seconds := self._budget.acquire(priority, expected)) > 0:
            before = time.monotonic()
            try:
                policy.wait(seconds, MAX_NAP_SECONDS)
            finally:
                self._observers.wait(priority, time.monotonic() - before)

    def _wait_for_upstream(self, policy: RetryPolicy, seconds: float) -> None:
        """Wait until the vendor takes requests again: with a budget all processes wait together, at their next turn."""
        if self._budget is None:
            policy.wait(seconds)
        else:
            self._budget.block(time.time() + seconds)

    def _exchange(self, request: UpstreamRequest) -> TransportResponse:
        before = time.monotonic()
        try:
            response = self._transport.exchange(request)
        except RetryableError:
            self._observers.request(str(request), "unreachable", time.monotonic() - before)
            raise
        self._observers.request(str(request), response.status, response.elapsed)
        self._observers.clock(clock_skew(response))
        rate_limit = parse_rate_limit(response)
        if self._budget and rate_limit:
            # A response that arrived is not lost because Redis is unavailable; the next turn raises that.
            with suppress(RedisUnavailable):
                self._budget.record_rate_limit(*rate_limit)
        return response
