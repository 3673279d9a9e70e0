"""The connections, settings and stop event of one process. Built once, at the edge of the process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from service.alerts.api_key_status import ApiKeyStatus
from service.broker.client import connect_redis
from service.broker.counters import BUDGET_WAIT_SECONDS, BUDGET_WAITS, UPSTREAM_REQUESTS, Counters
from service.broker.inbox import Inbox
from service.broker.jobs import JobQueue
from service.broker.stale_models import StaleModels
from service.errors import Stopping
from service.mirror.pull_slice import PullContext
from service.process_identity import new_process_name
from service.storage import database
from service.upstream.client import UpstreamClient
from service.upstream.sending import RequestObservers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    import redis
    from sqlalchemy import Engine

    from service.config import Settings
    from service.upstream.budget import Priority

# A wait reports progress at least this often, in seconds.
PROGRESS_INTERVAL_SECONDS = 5.0


@dataclass(slots=True)
class RequestCounter:
    """Counts the requests that a client sends, for this process's pulls and for `/metrics`."""

    counters: Counters
    requests: int = 0

    def observe(self, route: str, status: int | str, _seconds: float) -> None:
        """One try of a request."""
        self.requests += 1
        self.counters.add(UPSTREAM_REQUESTS, route, str(status))

    def observe_wait(self, priority: Priority, seconds: float) -> None:
        """A request found the budget spent, and waited."""
        self.counters.add(BUDGET_WAITS, priority.label)
        self.counters.add(BUDGET_WAIT_SECONDS, priority.label, amount=seconds)


@dataclass(slots=True)
class Runtime:
    """One process's connections.

    Attributes:
        redis: Redis, with short timeouts.
        stop: set when the process has to stop; every wait ends when it is set.
        stop_message: message of the error that ends the wait.
        before_write: called before a request is sent that changes the upstream; set before `client` is used.
        name: this process, in leases.
        progress: called when work goes on, or waits; a worker's supervisor listens.
    """

    settings: Settings
    engine: Engine
    redis: redis.Redis
    stop: threading.Event = field(default_factory=threading.Event)
    name: str = field(default_factory=new_process_name)
    progress: Callable[[], None] = lambda: None
    stop_message: str = "the process has to stop"
    before_write: Callable[[], None] = lambda: None
    _client: UpstreamClient | None = None
    counters: Counters = field(init=False)
    _request_counter: RequestCounter = field(init=False)
    _api_key_status: ApiKeyStatus = field(init=False)

    def __post_init__(self) -> None:
        """Counting begins with the process."""
        self.counters = Counters(self.redis)
        self._request_counter = RequestCounter(self.counters)
        self._api_key_status = ApiKeyStatus(self.engine)

    @classmethod
    def build(cls, settings: Settings) -> Runtime:
        """Connections from settings; nothing is connected yet."""
        return cls(settings, database.connect(settings.postgres_url), connect_redis(settings.redis))

    @property
    def queue(self) -> JobQueue:
        """The queue that takes jobs."""
        return JobQueue(self.redis)

    @property
    def inbox(self) -> Inbox:
        """The inbox under this process's name."""
        return Inbox(self.redis, self.name)

    @property
    def stale_models(self) -> StaleModels:
        """Models about which a delivery came too late."""
        return StaleModels(self.redis)

    @property
    def tolerance(self) -> timedelta:
        """How far an event's own time may lie ahead of its signature."""
        return self.settings.webhook_tolerance

    @property
    def client(self) -> UpstreamClient:
        """The upstream, under the budget that all processes share."""
        if self._client is None:
            observers = RequestObservers(
                self._observe,
                self._request_counter.observe_wait,
                self._api_key_status.observe_clock,
                # A process that has to stop sends nothing more.
                check=partial(self.pause, 0),
                before_write=self.before_write,
            )
            self._client = UpstreamClient.from_settings(
                self.settings, self.redis, pause=self.pause, observers=observers
            )
        return self._client

    def _observe(self, route: str, status: int | str, seconds: float) -> None:
        """One try of a request: count it, and store whether the upstream accepted our key."""
        self._request_counter.observe(route, status, seconds)
        self._api_key_status.observe(route, status)

    def requests_sent(self) -> int:
        """How many requests `client` has sent so far."""
        return self._request_counter.requests

    def pull_context(self, progress: Callable[[int, int], None] = lambda _read, _total: None) -> PullContext:
        """The context of this process's pulls."""
        return PullContext(
            self.engine, self.client, self.name, self.settings.tombstone_limit, self.requests_sent, progress, self.pause
        )

    def pause(self, seconds: float) -> None:
        """Wait, unless the process stops.

        Raises:
            Stopping: it does.
        """
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            self.progress()
            if self.stop.wait(min(left, PROGRESS_INTERVAL_SECONDS)):
                raise Stopping(self.stop_message)
        if self.stop.is_set():
            raise Stopping(self.stop_message)
