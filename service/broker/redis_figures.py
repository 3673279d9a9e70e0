"""The figures of the mirror that are in Redis, as `status` and `/metrics` show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.broker import counters, durability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from service.broker.durability import InboxCapacity


class RedisFigures(NamedTuple):
    """The figures at one moment."""

    capacity: InboxCapacity
    requests_left: int
    counts: Mapping[tuple[str, ...], float]


def read(client: redis.Redis, requests_left: Callable[[], int], inbox_limit: int) -> RedisFigures:
    """Read the figures.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    return RedisFigures(durability.capacity(client, inbox_limit), requests_left(), counters.read(client))
