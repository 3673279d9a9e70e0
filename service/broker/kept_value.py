"""A value in Redis that all processes share and that is forgotten after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.broker.client import translate_redis_errors

if TYPE_CHECKING:
    import redis


class KeptValue:
    """Bytes under one key.

    Args:
        client: a connection to Redis.
        key: where they are kept.
        seconds: for how long.
    """

    def __init__(self, client: redis.Redis, key: str, seconds: int) -> None:
        self._client: Any = client
        self._key = key
        self._seconds = seconds

    def read(self) -> bytes | None:
        """The value; None where none is kept.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        with translate_redis_errors():
            value: bytes | None = self._client.get(self._key)
        return value

    def keep(self, value: bytes) -> None:
        """Keep a value.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        with translate_redis_errors():
            self._client.set(self._key, value, ex=self._seconds)
