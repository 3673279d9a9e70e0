"""Redis behind Sentinels: a client that asks them for the primary, each time it connects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.connection import parse_url
from redis.sentinel import Sentinel

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from service.addresses import SentinelGroup


def client(group: SentinelGroup, connecting: Mapping[str, Any], options: Mapping[str, Any]) -> redis.Redis:
    """A client of the primary that a group of Sentinels knows; nothing is connected yet.

    `connecting` is for every connection, to Sentinels and to Redis; `options` for Redis alone.
    """
    given = parse_url(group.url)
    given["ssl"] = given.pop("connection_class", None) is not None
    del given["host"]
    # One certificate authority for both, as a rule.
    tls = {name: value for name, value in given.items() if name.startswith("ssl")}
    asking = {**connecting, **tls, **group.options, "socket_timeout": connecting["socket_connect_timeout"]}
    sentinel = Sentinel(group.addresses, sentinel_kwargs=asking, **{**given, **connecting, **options})
    found: redis.Redis = sentinel.master_for(group.service)
    return found
