"""Redis Cluster is refused at each new connection: it takes deliveries, and fails whatever touches two keys.

Why: `docs/decisions/0024-one-database-for-each-organization.md`.
"""

from __future__ import annotations

from typing import Any

import redis

MESSAGE = (
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
    if _mode(connection) == b"cluster":
        raise ClusterFound(MESSAGE)


def _mode(connection: Any) -> bytes | None:
    """The server's mode, from its greeting (RESP3) or from INFO; None where this user may not read INFO."""
    greeting = connection.handshake_metadata
    if greeting:
        mode: bytes | None = greeting.get(b"mode")
        return mode
    connection.send_command("INFO", "cluster", check_health=False)
    try:
        enabled = b"cluster_enabled:1" in connection.read_response()
    except redis.exceptions.ResponseError:
        return None
    return b"cluster" if enabled else b"standalone"
