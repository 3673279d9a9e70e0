"""Refetch requests that wait in Redis: web adds models, a worker moves them into `refetch_requests`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.broker.client import raise_flag, translate_redis_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

STALE_MODELS = "headshotpro:stale_models"
NOTE_INTERVAL_MS = 60_000


class StaleModels:
    """Models that a single GET has to read: their signed delivery came too late, or Postgres was unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def note(self, model_id: str) -> None:
        """Add a model, at most once a minute."""
        if raise_flag(self._client, f"{STALE_MODELS}:{model_id}", NOTE_INTERVAL_MS):
            with translate_redis_errors():
                self._client.sadd(STALE_MODELS, model_id)

    def waiting(self) -> list[str]:
        """The models that wait."""
        with translate_redis_errors():
            return sorted(member.decode() for member in self._client.smembers(STALE_MODELS))

    def remove(self, ids: Sequence[str]) -> None:
        """Remove models whose refetch requests are in Postgres now."""
        with translate_redis_errors():
            self._client.srem(STALE_MODELS, *ids)
