"""A lease in Redis: of several processes that would do the same, one does it, and another when that one is gone.

It ends by itself: who was cut off from Redis cannot hold it, and knows that when it asks. It is no fence: a process
that stood still may act a moment longer than it may, so what it guards bears to be done twice. What does not is
checked in Postgres, in the transaction that writes (`service.storage.pull_checkpoints`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.broker.client import translate_redis_errors
from service.process_identity import is_known_dead

if TYPE_CHECKING:
    import redis

_RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
_RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


class Lease:
    """One process's side of a lease.

    Args:
        client: a connection to the Redis that all processes share.
        key: names what may be done by one alone.
        holder: this process's name.
        ttl_ms: how long it lasts unless it is held on.
    """

    def __init__(self, client: redis.Redis, key: str, holder: str, ttl_ms: int) -> None:
        self._client: Any = client
        self._key = key
        self._holder = holder
        self._milliseconds = ttl_ms

    def acquire(self) -> bool:
        """Take it, or go on holding it: whether it is ours from now on for its whole time.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        with translate_redis_errors():
            self._release_if_holder_died()
            taken = self._client.set(self._key, self._holder, nx=True, px=self._milliseconds)
            return bool(taken or self._client.eval(_RENEW, 1, self._key, self._holder, self._milliseconds))

    def release(self) -> None:
        """Let another have it at once; nothing happens where it is not ours.

        Raises:
            RedisUnavailable: Redis cannot be reached; it ends by itself.
        """
        with translate_redis_errors():
            self._client.eval(_RELEASE, 1, self._key, self._holder)

    def _release_if_holder_died(self) -> None:
        """End the lease of a process of this machine that was killed: nobody need wait for its end."""
        holder = self._client.get(self._key)
        if holder and is_known_dead(holder.decode()):
            self._client.eval(_RELEASE, 1, self._key, holder)
