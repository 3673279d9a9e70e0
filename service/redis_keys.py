"""The keys that the mirror keeps in Redis, and which of them another program wrote with another type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.broker import counters, inbox, stale_models
from service.broker.client import translate_redis_errors
from service.broker.jobs import DRAIN_QUEUE, WORK_QUEUE

if TYPE_CHECKING:
    import redis

EXPECTED_TYPES = {
    inbox.STREAM: "stream",
    stale_models.STALE_MODELS: "set",
    counters.KEY: "hash",
    "headshotpro:budget:state": "hash",
    **{f"headshotpro:budget:{name}": "zset" for name in ("all", "others", "detail")},
    **{f"rq:queue:{name}": "list" for name in (DRAIN_QUEUE, WORK_QUEUE)},
}


class WrongKey(NamedTuple):
    """A key with another type than the mirror's."""

    key: str
    found: str

    def __str__(self) -> str:
        return f"{self.key} is a {self.found}, and has to be a {EXPECTED_TYPES[self.key]}"

    @property
    def advice(self) -> str:
        """The remedy: what another program wrote there is of no use to the mirror."""
        return f"find out which program wrote it, then run `redis-cli del {self.key}`"


def wrong_keys(client: redis.Redis) -> list[WrongKey]:
    """The keys that have another type than the mirror's.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors(), client.pipeline(transaction=False) as pipeline:
        for key in EXPECTED_TYPES:
            pipeline.type(key)
        found: list[Any] = pipeline.execute()
    types = zip(EXPECTED_TYPES, (one.decode() for one in found), strict=True)
    return [WrongKey(key, kind) for key, kind in types if kind not in ("none", EXPECTED_TYPES[key])]
