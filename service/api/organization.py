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


class OrganizationReader:
    """Reads the organization of one key; Redis keeps the response under a name with the digest of that key."""

    def __init__(self, client: UpstreamClient, kept: redis.Redis, api_key: str) -> None:
        self._client = client
        self._kept: Any = kept
        self._key = f"headshotpro:organization:{sha256(api_key.encode()).hexdigest()[:16]}"

    def read(self) -> bytes:
        """The upstream's own response, no older than a minute; raises what the client raises."""
        with translate_redis_errors():
            kept: bytes | None = self._kept.get(self._key)
        if kept is not None:
            return kept
        response = self._client.organization(priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS)
        with translate_redis_errors():
            self._kept.set(self._key, response.raw, ex=KEPT_SECONDS)
        return response.raw
