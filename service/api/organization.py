"""The organization of the mirror's key: read from the upstream, at most once a minute by all processes together."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from service.api.writes import UPSTREAM_DEADLINE_SECONDS
from service.broker.client import translate_redis_errors
from service.upstream.budget import Priority

if TYPE_CHECKING:
    import redis

    from service.upstream.client import UpstreamClient

KEPT_SECONDS = 60


def read_organization(client: UpstreamClient, redis_client: redis.Redis, api_key: str) -> bytes:
    """The upstream's own response about the organization of a key, no older than a minute.

    Raises what the client raises, and `RedisUnavailable`.
    """
    kept: Any = redis_client
    key = f"headshotpro:organization:{sha256(api_key.encode()).hexdigest()[:16]}"
    with translate_redis_errors():
        known: bytes | None = kept.get(key)
    if known is not None:
        return known
    response = client.organization(priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS)
    with translate_redis_errors():
        kept.set(key, response.raw, ex=KEPT_SECONDS)
    return response.raw
