"""Fresh reads of models: at most one request to the upstream for each model in five seconds."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from service.broker.inbox import translate_redis_errors
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    import redis

FRESH_SECONDS = 5


class FreshReadLimiter:
    """Which models were read fresh just now, by all web processes together.

    Args:
        client: a connection to Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def claim(self, model_id: str) -> bool:
        """Whether the upstream may be asked about a model; False: it was, less than five seconds ago.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        with translate_redis_errors():
            return bool(self._client.set(_key(model_id), 1, nx=True, ex=FRESH_SECONDS))

    def release(self, model_id: str) -> None:
        """The upstream did not show the model, so the mirror is no fresher than before: the next read may ask again."""
        with suppress(RedisUnavailable), translate_redis_errors():
            self._client.delete(_key(model_id))


def _key(model_id: str) -> str:
    return f"headshotpro:fresh:{model_id}"
