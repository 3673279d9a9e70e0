"""A connection to Redis: time limits, Sentinels, no cluster, errors of our own instead of redis-py's; flags.

Redis Cluster is refused at each new connection: it takes deliveries, and fails whatever touches two keys. Why:
`docs/decisions/0024-one-database-for-each-organization.md`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from service.addresses import parse_sentinel_url
from service.errors import ClusterRefused, RedisUnavailable, SettingsError, WrongKeyType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.addresses import SentinelGroup

MAX_CONNECT_SECONDS = 5.0
# A process that starts waits for a server that hangs no longer than this.
STARTUP_TIMEOUT_SECONDS = 1.0
MAX_OF_AN_OPTION = 1e6
# How CLIENT LIST names our connections. By default redis-py reads the files of its package for each of them.
_DRIVER = redis.DriverInfo()

# What a URL may say of its connections. Others are objects of Python, or change the type of what Redis returns.
_POSITIVE = {"socket_timeout", "socket_connect_timeout", "max_connections"}
_OPTIONS = {
    *("db", "username", "password", "client_name", "protocol", "health_check_interval", "socket_keepalive"),
    *("retry_on_timeout", *_POSITIVE),
}

_REFUSED = "Redis cannot be reached or refuses: "


def connect_redis(url: str, *, timeout: float | None = 5.0) -> redis.Redis:
    """A client without redis-py's own retries (up to a minute by default); nothing is connected yet.

    Args:
        url: of a Redis (`redis://…`, `rediss://…`), or of Sentinels that know it
            (`service.addresses.parse_sentinel_url`).
        timeout: seconds within which its calls end; None: the caller sets it.

    Raises:
        SettingsError: redis-py does not understand the URL, or not one of its options.
    """
    connecting: dict[str, Any] = {
        "socket_connect_timeout": min(timeout or MAX_CONNECT_SECONDS, MAX_CONNECT_SECONDS),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "driver_info": _DRIVER,
    }
    # A Redis that was demoted keeps its clients: those that it refuses for that hang up, and find the primary.
    options: dict[str, Any] = {"socket_timeout": timeout, "retry_on_error": [ReadOnlyError]}
    options["redis_connect_func"] = refuse_cluster
    try:
        group = parse_sentinel_url(url)
        _check_options(group.url if group else url)
        client = (
            _sentinel_client(group, connecting, options)
            if group
            else redis.Redis.from_url(url, **connecting, **options)
        )
        # redis-py checks most options only when it connects: an odd one would fail each time, for ever.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (AttributeError, TypeError, ValueError, redis.exceptions.RedisError):
        raise SettingsError("REDIS_URL is malformed: one of its options, or a value of one, is not known") from None
    return client


def _check_options(url: str) -> None:
    """Raise ValueError for an option of a URL that redis-py takes, and that breaks this code or each connection."""
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if name not in _OPTIONS and not name.startswith("ssl_"):
            raise ValueError(name)
        # Not a number at all, zero, below it, none (nan), or more than a socket can wait.
        if name in _POSITIVE and not 0 < float(value) < MAX_OF_AN_OPTION:
            raise ValueError(name)
        # Redis refuses any other character in it, each time that a client connects.
        if name == "client_name" and not all("!" <= character <= "~" for character in value):
            raise ValueError(name)


def require_usable_redis(url: str) -> None:
    """Check at a process's start what only a connection shows; a server that is unavailable now is waited for later.

    Raises:
        SettingsError: the URL is malformed, or leads to a Redis Cluster.
    """
    with connect_redis(url, timeout=STARTUP_TIMEOUT_SECONDS) as client:
        try:
            with translate_redis_errors():
                client.ping()
        except ClusterRefused as error:
            raise SettingsError(str(error)) from None
        except RedisUnavailable:
            return


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Turn redis-py's errors into ours.

    Raises:
        ClusterRefused: the server is a node of a Redis Cluster.
        WrongKeyType: a key holds another type than the mirror writes.
        RedisUnavailable: Redis cannot be reached, or refuses to write.
    """
    try:
        yield
    except ClusterFound as error:
        raise ClusterRefused(str(error)) from None
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise RedisUnavailable(f"{_REFUSED}{error}") from error
        raise WrongKeyType(
            "a key of the mirror's in Redis has a wrong type: `headshot-mirror doctor` names it and what to do"
        ) from error
    except (redis.exceptions.RedisError, OSError) as error:
        raise RedisUnavailable(f"{_REFUSED}{error}") from error


_CLUSTER = (
    "REDIS_URL leads to a Redis Cluster, which is not supported: use one primary without cluster mode, "
    "or Sentinels (redis+sentinel://)"
)


class ClusterFound(redis.exceptions.ConnectionError):
    """The server is a node of a Redis Cluster; to redis-py a connection that failed."""


def refuse_cluster(connection: Any) -> None:
    """Greet a server as redis-py does, and refuse one in cluster mode; redis-py's `redis_connect_func`.

    Raises:
        ClusterFound: it is one.
    """
    connection.on_connect()
    if _is_cluster(connection):
        raise ClusterFound(_CLUSTER)


def _is_cluster(connection: Any) -> bool:
    """Whether a server is in cluster mode, by its greeting (RESP3) or INFO; False where this user may not read INFO."""
    if greeting := connection.handshake_metadata:
        return bool(greeting.get(b"mode") == b"cluster")
    connection.send_command("INFO", "cluster", check_health=False)
    try:
        return b"cluster_enabled:1" in connection.read_response()
    except redis.exceptions.ResponseError:
        return False


def _sentinel_client(group: SentinelGroup, connecting: Mapping[str, Any], options: Mapping[str, Any]) -> redis.Redis:
    """A client of the primary that a group of Sentinels knows; nothing is connected yet.

    `connecting` is for every connection, to Sentinels and to Redis; `options` for Redis alone.
    """
    given = parse_url(group.url)
    given["ssl"] = given.pop("connection_class", None) is not None
    del given["host"]
    # One certificate authority for both, as a rule.
    tls = {name: value for name, value in given.items() if name.startswith("ssl")}
    asking = {**connecting, **tls, **group.options, "socket_timeout": connecting["socket_connect_timeout"]}
    asked = Sentinel(group.addresses, sentinel_kwargs=asking, **{**given, **connecting, **options})
    found: redis.Redis = asked.master_for(group.service)
    return found


def raise_flag(client: redis.Redis, key: str, ttl_ms: int) -> bool:
    """Raise a flag for a time in ms; False where it was up, and then it falls no later than before.

    It falls by itself: something was done just now, so no process does it again for a while.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        return bool(client.set(key, 1, nx=True, px=ttl_ms))


def clear_flag(client: redis.Redis, key: str) -> None:
    """Let a flag fall now.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    with translate_redis_errors():
        client.delete(key)
