"""Fresh reads of models: at most one request to the upstream for each model in five seconds."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from service.broker.flags import clear_flag, raise_flag
from service.errors import RedisUnavailable

if TYPE_CHECKING:
    import redis

FRESH_MS = 5_000


class FreshReadLimiter:
    """Which models were read fresh just now, by all web processes together."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def claim(self, model_id: str) -> bool:
        """Whether a fresh read may be sent; False: one was, less than five seconds ago.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        return raise_flag(self._client, _key(model_id), FRESH_MS)

    def release(self, model_id: str) -> None:
        """The upstream did not show the model, so the mirror is no fresher than before: allow the next read."""
        with suppress(RedisUnavailable):
            clear_flag(self._client, _key(model_id))


def _key(model_id: str) -> str:
    return f"headshotpro:fresh:{model_id}"
