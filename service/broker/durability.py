"""The durability that Redis' settings guarantee for an accepted event, how much room is left, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from service.broker import counters
from service.broker.client import translate_redis_errors
from service.broker.inbox import Inbox, InboxDepth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# From this share of the limit, or of Redis' memory, a warning is shown: long before it is full.
EVENTS_WARNING = 0.1
MEMORY_WARNING = 0.8


class Durability(NamedTuple):
    """The guarantee of Redis' settings for an accepted event.

    `summary` is for people; each of `misconfigurations` says what is wrong, and what to do.
    """

    summary: str
    misconfigurations: tuple[str, ...]


def read_durability(client: Any) -> Durability:
    """Read the guarantee from Redis' settings.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        try:
            given = {**client.config_get("append*"), **client.config_get("maxmemory-policy")}
        except redis.exceptions.ResponseError:
            # Managed servers forbid CONFIG, and INFO contains less.
            client.ping()
            return Durability("durability unknown (CONFIG is not allowed)", ())
    found = {_text(name): _text(value) for name, value in given.items()}
    fsync, policy = found.get("appendfsync"), found.get("maxmemory-policy")
    faults = []
    if policy != "noeviction":
        faults = [f"maxmemory-policy is {policy}: Redis may throw events away; set `maxmemory-policy noeviction`"]
    if found.get("appendonly") != "yes":
        off = "appendonly is off: events are lost when Redis restarts; set `appendonly yes`"
        return Durability("; ".join(("an event does not survive a restart of Redis", *faults)), (off, *faults))
    survived = "a power cut" if fsync == "always" else "a kill, not a power cut"
    return Durability("; ".join((f"an event survives {survived} (appendfsync {fsync})", *faults)), tuple(faults))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class InboxCapacity(NamedTuple):
    """How full the inbox is.

    Attributes:
        limit: from this number on, deliveries go to Postgres.
        memory: share of Redis' `maxmemory` in use; None where it has none, or does not show it.
        replica: it is a copy of another, which alone takes writes.
    """

    depth: InboxDepth
    limit: int
    memory: float | None
    replica: bool = False

    @property
    def events(self) -> int:
        """How many events wait."""
        return self.depth.events

    @property
    def full(self) -> bool:
        """Redis takes no event now."""
        return self.replica or self.events >= self.limit or (self.memory or 0.0) >= 1.0

    @property
    def state(self) -> str:
        """The same in a word."""
        return "read-only" if self.replica else "full" if self.full else "ok"

    @property
    def warning(self) -> str:
        """A warning for people; empty while all is well."""
        if self.replica:
            return "it is a replica, and takes no writes: REDIS_URL has to lead to the primary"
        if self.events >= self.limit * EVENTS_WARNING:
            return f"{self.events} events wait, at {self.limit} it takes no more: are workers running?"
        if self.memory is not None and self.memory >= MEMORY_WARNING:
            return f"{self.memory:.0%} of its memory is in use: raise `maxmemory`"
        return ""


def capacity(client: Any, limit: int) -> InboxCapacity:
    """Read from Redis how full it is.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    depth = Inbox(client).depth()
    with translate_redis_errors():
        try:
            memory = client.info("memory")
            replica = client.info("replication").get("role") == "slave"
        except redis.exceptions.ResponseError:
            return InboxCapacity(depth, limit, None)
    most = memory.get("maxmemory") or 0
    return InboxCapacity(depth, limit, memory["used_memory"] / most if most else None, replica)


class RedisFigures(NamedTuple):
    """The figures of the mirror that are in Redis, at one moment, as `status` and `/metrics` show them."""

    capacity: InboxCapacity
    requests_left: int
    counts: Mapping[tuple[str, ...], float]


def read_figures(client: redis.Redis, requests_left: Callable[[], int], inbox_limit: int) -> RedisFigures:
    """Read the figures.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    return RedisFigures(capacity(client, inbox_limit), requests_left(), counters.read(client))
