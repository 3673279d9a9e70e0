"""A lease in Redis: of several processes that would do the same, one does it, and another when that one is dead.

It is redis-py's lock, and expires by itself. It is no fence: a process that was suspended may act after its lease
ended, so the guarded work must be safe to do twice. Other work checks a lease in Postgres, in its own transaction
(`service.storage.pull_checkpoints`).

Why: `docs/decisions/0010-leases.md`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError
from redis.lock import Lock

from service.broker.client import translate_redis_errors

if TYPE_CHECKING:
    import redis


class Lease:
    """One process's side of a lease. `holder` shows people who has it; it lasts for `seconds` unless it is renewed."""

    def __init__(self, client: redis.Redis, key: str, holder: str, seconds: float) -> None:
        # One object is one holder, whichever of its process's threads calls.
        self._lock = Lock(client, key, timeout=seconds, blocking=False, thread_local=False)
        self._holder = holder
        self._client: Any = client
        self._key = key
        self._milliseconds = round(seconds * 1000)

    def acquire(self) -> bool:
        """Take it or renew it; False where another process has it.

        Raises:
            RedisUnavailable: Redis cannot be reached.
        """
        with translate_redis_errors():
            # redis-py raises this where this process never had it, or has it no longer.
            with suppress(LockError):
                return self._lock.reacquire()
            return bool(self._lock.acquire(token=self._holder)) or self._limit()

    def _limit(self) -> bool:
        """Let a key end that would hold longer than any lease does: a person or another program wrote it."""
        if not -1 < self._client.pttl(self._key) <= self._milliseconds:
            self._client.pexpire(self._key, self._milliseconds)
        return False

    def release(self) -> None:
        """Let another process have it at once; nothing happens where this one does not have it.

        Raises:
            RedisUnavailable: Redis cannot be reached; the lease expires by itself.
        """
        with translate_redis_errors(), suppress(LockError):
            self._lock.release()
