"""The organization of the mirror's key: read from the upstream, at most once a minute by all processes together."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from service.api.writes import UPSTREAM_DEADLINE_SECONDS
from service.broker.kept_value import KeptValue
from service.upstream.budget import Priority

if TYPE_CHECKING:
    import redis

    from service.upstream.client import UpstreamClient

KEPT_SECONDS = 60


class OrganizationReader:
    """Reads the organization of one key.

    Args:
        client: the upstream.
        kept: Redis, where the response is kept.
        api_key: the key; its digest is in the name under which the response is kept.
    """

    def __init__(self, client: UpstreamClient, kept: redis.Redis, api_key: str) -> None:
        digest = sha256(api_key.encode()).hexdigest()[:16]
        self._client = client
        self._kept = KeptValue(kept, f"headshotpro:organization:{digest}", KEPT_SECONDS)

    def read(self) -> bytes:
        """The upstream's own response, no older than a minute; raises what the client raises."""
        kept = self._kept.read()
        if kept is not None:
            return kept
        response = self._client.organization(priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS)
        self._kept.keep(response.raw)
        return response.raw
