"""Flags in Redis that fall by themselves: something was done just now, so no process does it again for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.broker.client import translate_redis_errors

if TYPE_CHECKING:
    import redis


def raise_flag(client: redis.Redis, key: str, ttl_ms: int) -> bool:
    """Raise a flag for a time in ms; False where it was up, and then it falls no later than before.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        return bool(client.set(key, 1, nx=True, px=ttl_ms))


def clear_flag(client: redis.Redis, key: str) -> None:
    """Let a flag fall now.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        client.delete(key)
