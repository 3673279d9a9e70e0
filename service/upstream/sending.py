"""How one call reaches the upstream: it waits for its turn, is tried again where that is safe, and is counted."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from service import __version__
from service.errors import RedisUnavailable, ResponseTooLarge, UpstreamTimeout, UpstreamUnreachable
from service.http_client import HttpClient, RequestFailed
from service.upstream.headers import clock_skew, parse_rate_limit
from service.upstream.responses import RateLimited, UpstreamResponse
from service.upstream.retry import MAX_NAP_SECONDS, RetryPolicy
from service.upstream.transport import RetryableError, TransportResponse, UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from service.upstream.budget import Priority, RequestBudget

T = TypeVar("T")

# A page of 200 models is 0.1 MB; more than this is no response of the vendor's.
LARGEST_BODY = 16 * 1024 * 1024
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
        check: called before the first try of a request, and while a GET waits for its response; may raise `Stopping`.
        before_write: called before each try of a request that is no GET.
    """

    request: Callable[[str, int | str, float], None] = ignore
    wait: Callable[[Priority, float], None] = ignore
    clock: Callable[[timedelta | None], None] = ignore
    check: Callable[[], None] = ignore
    before_write: Callable[[], None] = ignore


NO_OBSERVERS = RequestObservers()


class RequestSender:
    """Sends the calls of one client, with its bearer key, over its connections. Every library error is kept in."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        budget: RequestBudget | None,
        *,
        pause: Callable[[float], None] = time.sleep,
        connect_timeout: float = 5.0,
        response_timeout: float = 20.0,
        proxy: str | None = None,
        observers: RequestObservers = NO_OBSERVERS,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            base_url: the API's base, with `/api/v2`.
            api_key: the organization's bearer key; `service.config` has checked that a header can hold it.
            budget: shared with all our processes; None without Redis, then only 429s hold requests back.
            pause: waits a number of seconds; may raise `Stopping`.
            connect_timeout: seconds.
            response_timeout: seconds until the whole response must be there, name resolution and connection included.
            proxy: URL of the proxy to go through; None connects directly.
            observers: functions that are called with tries, waits and clocks.
        """
        self._base = base_url.rstrip("/")
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            # A cache on the way would show what was so a while ago.
            "Cache-Control": "no-cache",
            "User-Agent": f"headshot-mirror/{__version__}",
        }
        self._http_client = HttpClient(
            deadline=response_timeout, connect_timeout=connect_timeout, max_body_bytes=LARGEST_BODY, proxy=proxy
        )
        self._budget = budget
        self._pause = pause
        self._observers = observers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._http_client.close()

    def send(
        self,
        request: UpstreamRequest,
        read: Callable[[TransportResponse], UpstreamResponse[T]],
        priority: Priority,
        max_wait: float | None,
        *,
        read_again: Callable[[TransportResponse], UpstreamResponse[T]] | None = None,
        expected: int = 1,
    ) -> UpstreamResponse[T]:
        """Try until a response is final: wait for a turn, send, then read, wait or give up.

        `read_again` reads one that comes after a fault, by default `read`; `expected` is how many requests the caller's
        work needs in all, as far as it knows.
        """
        self._observers.check()
        policy = RetryPolicy(max_wait, self._pause)
        while True:
            self._await_turn(priority, policy, expected)
            try:
                response = self._exchange(request)
                return (read_again or read)(response) if policy.failures else read(response)
            except RateLimited as limited:
                self._wait_for_upstream(policy, policy.rate_limit_delay(limited.seconds))
            except RetryableError as failure:
                self._wait_before_retry(failure, request, policy)

    def _wait_before_retry(self, failure: RetryableError, request: UpstreamRequest, policy: RetryPolicy) -> None:
        """Wait before the next try, at least for `Retry-After`; raise the fault's error where no try is left."""
        # To read or to delete twice is as good as once.
        if failure.may_have_arrived and request.method == "POST":
            raise failure.error from None
        policy.count_failure(failure.error)
        if failure.retry_after is None:
            policy.back_off(failure.error)
        elif request.about_model:
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
        """Send a request and read its whole response, whatever its status.

        Raises:
            ResponseTooLarge: it would be as large again.
            RetryableError: there was no whole response.
        """
        headers = self._headers if request.body is None else self._headers | {"Content-Type": "application/json"}
        # Whether a change took effect is only known from its response; a GET is given up.
        check = self._observers.check if request.method == "GET" else ignore
        if request.method != "GET":
            self._observers.before_write()
        before = time.monotonic()
        try:
            sent = self._http_client.send(request.method, self._base + request.path, headers, request.body, check)
        except RequestFailed as error:
            self._observers.request(str(request), "unreachable", time.monotonic() - before)
            # A library's message may hold addresses, never the key.
            if error.too_large:
                raise ResponseTooLarge(f"{request}: {error}") from None
            kind = UpstreamTimeout if error.timed_out else UpstreamUnreachable
            raise RetryableError(kind(f"{request}: {error}"), may_have_arrived=error.may_have_arrived) from None
        elapsed = time.monotonic() - before
        response = TransportResponse(request, sent.status, sent.headers, sent.body, time.time(), elapsed)
        self._observers.request(str(request), response.status, elapsed)
        self._observers.clock(clock_skew(response))
        rate_limit = parse_rate_limit(response)
        if self._budget and rate_limit:
            # A response that arrived is not lost because Redis is unavailable; the next turn raises that.
            with suppress(RedisUnavailable):
                self._budget.record_rate_limit(*rate_limit)
        return response
