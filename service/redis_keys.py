"""The keys that the mirror keeps in Redis, and which of them another program wrote with another type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    **{f"headshotpro:budget:{name}": "zset" for name in ("all", "others", "detail", "accuracy")},
    **{f"rq:queue:{name}": "list" for name in (DRAIN_QUEUE, WORK_QUEUE)},
}


def wrong_keys(client: redis.Redis) -> dict[str, str]:
    """The fault of each key that has another type than the mirror's, to what to do about it.

    What another program wrote there is of no use to the mirror.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors(), client.pipeline(transaction=False) as pipeline:
        for key in EXPECTED_TYPES:
            pipeline.type(key)
        found: list[Any] = pipeline.execute()
    return {
        f"{key} is a {kind}, and has to be a {expected}": (
            f"find out which program wrote it, then run `redis-cli del {key}`"
        )
        for (key, expected), kind in zip(EXPECTED_TYPES.items(), (one.decode() for one in found), strict=True)
        if kind not in ("none", expected)
    }
