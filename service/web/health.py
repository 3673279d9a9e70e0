"""Health: is the process alive, can a delivery be accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from flask import Response

from service.broker import durability
from service.errors import PostgresUnavailable, RedisUnavailable, SchemaOutdated
from service.storage import database
from service.storage.database import BackgroundCall
from service.storage.migrations import revision

if TYPE_CHECKING:
    import redis
    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

# A Postgres that hangs must not hang the response.
POSTGRES_TIMEOUT_SECONDS = 3.0


class HealthEndpoint:
    """The two checks of a load balancer."""

    def __init__(self, client: redis.Redis, engine: Engine, inbox_limit: int, *, webhooks_open: bool) -> None:
        self._client = client
        self._engine = engine
        self._inbox_limit = inbox_limit
        self._webhooks_open = webhooks_open

    def livez(self) -> Response:
        """200 while the process responds."""
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        """200 while one of the servers can take a delivery, else 503; with one line for each.

        Any client may read it, so it holds no address, role or user of a server; the log has the reasons. It judges
        servers alone: a process without a secret still serves the API, so a load balancer must not take it out.
        """
        postgres_takes, postgres_lines = self._postgres()
        redis_takes, redis_line = self._redis()
        if not redis_takes and postgres_takes:
            redis_line += "; deliveries are kept in Postgres meanwhile"
        lines = sorted([*postgres_lines, redis_line])
        if not self._webhooks_open:
            lines.append("webhooks: closed, HEADSHOTPRO_WEBHOOK_SECRET is missing")
        return Response("\n".join(lines) + "\n", 200 if redis_takes or postgres_takes else 503, mimetype="text/plain")

    def _redis(self) -> tuple[bool, str]:
        """Whether it takes an event, and what its settings guarantee for one."""
        try:
            summary = durability.read_durability(self._client).summary
            capacity = durability.capacity(self._client, self._inbox_limit)
        except RedisUnavailable as error:
            log.warning("readyz.unavailable", server="redis", reason=str(error))
            return False, "redis: unavailable"
        return not capacity.full, "; ".join(
            part for part in (f"redis: {capacity.state}, {summary}", capacity.warning) if part
        )

    def _postgres(self) -> tuple[bool, list[str]]:
        """Whether its spool takes a delivery; Postgres and its schema, a line each."""
        try:
            found = BackgroundCall(self._schema).result(POSTGRES_TIMEOUT_SECONDS)
        except PostgresUnavailable as error:
            log.warning("readyz.unavailable", server="postgres", reason=str(error))
            return False, ["postgres: unavailable", "schema: unknown"]
        except SchemaOutdated as error:
            return False, ["postgres: ok", f"schema: outdated ({error})"]
        return True, ["postgres: ok", f"schema: ok, revision {found}"]

    def _schema(self) -> str:
        """The schema's revision, where Postgres takes writes."""
        found = revision.check(self._engine)
        with database.transaction(self._engine) as connection:
            database.require_writes(connection)
        return found
