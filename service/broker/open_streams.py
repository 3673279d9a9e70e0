"""How many streams of the console each web process has open, kept in Redis for `/metrics` of any of them."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service.broker.client import translate_redis_errors
from service.errors import MirrorError

if TYPE_CHECKING:
    import redis

KEY = "headshotpro:console_streams"
# A number that does not change is noted again after this; one that is older than three of them is that of a process
# that was killed.
NOTE_SECONDS = 10.0
ALIVE_SECONDS = 30


class OpenStreams:
    """The number of one process."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._name = uuid4().hex
        self._noted = 0
        self._due = 0.0

    def note(self, number: int) -> None:
        """Note how many are open; most calls find that nothing changed and cost nothing."""
        if number == self._noted and monotonic() < self._due:
            return
        self._noted, self._due = number, monotonic() + NOTE_SECONDS
        # It is noted again soon.
        with suppress(MirrorError), translate_redis_errors(), self._client.pipeline() as pipeline:
            if number:
                pipeline.hset(KEY, self._name, f"{number} {time():.0f}")
            else:
                pipeline.hdel(KEY, self._name)
            pipeline.expire(KEY, 2 * ALIVE_SECONDS)
            pipeline.execute()


def read(client: redis.Redis) -> int:
    """How many are open in all processes that live.

    Raises:
        RedisUnavailable: Redis cannot be reached.
    """
    reading: Any = client
    with translate_redis_errors():
        noted = [value.split() for value in reading.hvals(KEY)]
    return sum(int(number) for number, at in noted if time() - int(at) < ALIVE_SECONDS)
