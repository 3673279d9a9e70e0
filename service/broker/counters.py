"""Counts that all processes share, kept in Redis: right with any number of processes, and after each of their restarts.

Counting costs its caller no request: counts are kept in the process and sent once a second, by a thread of their own
that ends then, and at the end of the process. Counts that Redis could not take are sent later. The counts of a second
are lost where a process is killed, and count twice where the response of Redis was lost.

Why: `docs/decisions/0018-counters-in-redis.md`.
"""

from __future__ import annotations

import atexit
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any

import structlog

from service.broker.client import translate_redis_errors
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

log = structlog.get_logger(__name__)

# The counters, by their names in `/metrics`.
DELIVERIES = "deliveries"
EVENTS = "events"
EVENT_TO_ROW = "event_to_row_seconds"
UPSTREAM_REQUESTS = "upstream_requests"
BUDGET_WAITS = "upstream_budget_waits"
BUDGET_WAIT_SECONDS = "upstream_budget_wait_seconds"
REFUSED_KEYS = "refused_keys"
SUBSCRIPTION_REQUESTS = "subscription_requests"
SUBSCRIPTION_LATENCY = "subscription_latency_seconds"

KEY = "headshotpro:counters"
FLUSH_SECONDS = 1.0
# Between the parts of a field's name; no label holds it.
SEPARATOR = "|"
SUM = "sum"

# Upper ends of a histogram's buckets, in seconds: from a drain that is awake to a mirror that was down for an hour.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_BUCKET_LABELS = (*(f"{end:g}" for end in BUCKETS), "+Inf")


class Counters:
    """One process's share in the counts.

    Args:
        client: a connection to Redis with short timeouts; it may be shared with others.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        # Guards what follows; held for a moment only.
        self._lock = threading.Lock()
        self._pending: defaultdict[str, float] = defaultdict(float)
        self._timer: threading.Timer | None = None
        self._registered = False

    def add(self, name: str, *labels: str, amount: float = 1) -> None:
        """Count something, or seconds of it. Labels have few values each, and never anything of a person's."""
        self._accumulate({field_name(name, *labels): amount})

    def observe(self, name: str, seconds: Iterable[float]) -> None:
        """Count durations into the buckets of a histogram."""
        durations = list(seconds)
        counted = {field_name(name, end): float(number) for end, number in Counter(map(bucket_of, durations)).items()}
        self._accumulate({**counted, field_name(name, SUM): sum(durations)})

    def flush(self) -> None:
        """Send what was counted.

        Raises:
            RedisUnavailable: Redis cannot be reached; the counts are kept for the next time.
        """
        counted = self._take()
        try:
            self._send(counted)
        except RedisUnavailable:
            self._accumulate(counted)
            raise

    def _take(self) -> dict[str, float]:
        with self._lock:
            counted, self._pending, self._timer = self._pending, defaultdict(float), None
        return counted

    def _send(self, counted: Mapping[str, float]) -> None:
        if not counted:
            return
        with translate_redis_errors(), self._client.pipeline() as pipeline:
            for field, amount in counted.items():
                pipeline.hincrbyfloat(KEY, field, amount)
            pipeline.execute()

    def _accumulate(self, counted: Mapping[str, float]) -> None:
        with self._lock:
            for field, amount in counted.items():
                self._pending[field] += amount
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self._flush_or_log)
                self._timer.daemon = True
                self._timer.start()
                # Once: up to Python 3.13 each registration takes a place for good, also one that was taken back.
                if not self._registered:
                    atexit.register(self._flush_at_exit)
                    self._registered = True

    def _flush_or_log(self) -> None:
        try:
            self.flush()
        except RedisUnavailable as error:
            log.debug("counters.flush_failed", reason=str(error))

    def _flush_at_exit(self) -> None:
        """The last second; what Redis does not take now is lost, since no thread can start any more."""
        with suppress(RedisUnavailable):
            self._send(self._take())


def field_name(name: str, *labels: str) -> str:
    """The name under which Redis keeps a count."""
    return SEPARATOR.join((name, *labels))


def bucket_of(seconds: float) -> str:
    """The upper end of the bucket that a duration falls into, as Prometheus writes it."""
    return _BUCKET_LABELS[bisect_left(BUCKETS, seconds)]


def read(client: Any) -> dict[tuple[str, ...], float]:
    """Every count of all processes, by its name and labels; a field that a person wrote and is no count is left out.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        stored = client.hgetall(KEY)
    counts: dict[tuple[str, ...], float] = {}
    for name, value in stored.items():
        # Alerts and HEARTBEAT_URL depend on this: one odd field must not end them.
        with suppress(ValueError):
            if isfinite(count := float(value)):
                counts[tuple(name.decode().split(SEPARATOR))] = count
    return counts
