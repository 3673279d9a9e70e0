"""Health: is the process alive, can a delivery be accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

from service import inbox
from service.errors import InboxUnavailable, SchemaOutdated, StorageUnavailable
from service.storage import schema
from service.web.in_time import InTime

if TYPE_CHECKING:
    import redis
    from sqlalchemy import Engine

# A Postgres that hangs must not hang the question: the door can do without it.
POSTGRES_PATIENCE_SECONDS = 3.0


class Health:
    """The two questions of a load balancer.

    Args:
        client: the inbox's Redis.
        engine: the mirror's Postgres.
    """

    def __init__(self, client: redis.Redis, engine: Engine) -> None:
        self._client = client
        self._engine = engine

    def livez(self) -> Response:
        """The process answers."""
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        """200 while a delivery can be accepted, else 503; a line for each server says why."""
        ready, redis_line = self._redis()
        lines = [*self._postgres_in_time(), redis_line]
        return Response("\n".join(sorted(lines)) + "\n", 200 if ready else 503, mimetype="text/plain")

    def _redis(self) -> tuple[bool, str]:
        try:
            return True, f"redis: ok, {inbox.durability(self._client).words}"
        except InboxUnavailable as error:
            return False, f"redis: unavailable ({error})"

    def _postgres_in_time(self) -> list[str]:
        lines = InTime(self._postgres).answer(POSTGRES_PATIENCE_SECONDS)
        return lines or [f"postgres: unavailable (no answer in {POSTGRES_PATIENCE_SECONDS:.0f} s)", "schema: unknown"]

    def _postgres(self) -> list[str]:
        """Postgres is not on the door's path: while it is gone, deliveries are accepted and wait."""
        try:
            revision = schema.check(self._engine)
        except StorageUnavailable as error:
            return [f"postgres: unavailable ({error})", "schema: unknown"]
        except SchemaOutdated as error:
            return ["postgres: ok", f"schema: outdated ({error})"]
        return ["postgres: ok", f"schema: ok, revision {revision}"]
