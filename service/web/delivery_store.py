"""The delivery store: puts a delivery into the inbox or, while Redis cannot take it, into Postgres' spool."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError

from service.circuit_breaker import OPEN_SECONDS, CircuitBreaker
from service.errors import PostgresUnavailable, RedisUnavailable, SchemaOutdated, Unavailable
from service.storage import spool
from service.storage.database import BackgroundCall, transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.broker.inbox import Delivery, PutResult
    from service.web.group_commit import GroupCommit

log = structlog.get_logger(__name__)

# A delivery waits this long for Postgres at most, while Redis is unavailable.
SPOOL_TIMEOUT_SECONDS = 3.0


class DeliveryStore:
    """Stores deliveries; a server that is down costs one request a second its timeout, not every one.

    Args:
        limit: how many events may wait in the stream; where there are more, the spool takes them, so that Redis'
            memory is never full.
    """

    def __init__(self, inbox: GroupCommit, engine: Engine, limit: int) -> None:
        self._inbox = inbox
        self._engine = engine
        self._limit = limit
        self._full_until = 0.0
        self._redis = CircuitBreaker(RedisUnavailable, "Redis")
        self._postgres = CircuitBreaker(PostgresUnavailable, "Postgres")

    def store(self, delivery: Delivery) -> PutResult | None:
        """Store a delivery; it is safe when this returns.

        Where Redis did not respond, it may hold the delivery as well; by its id it counts once.

        Returns:
            As `Inbox.put`; None: the spool has it. Without Redis no worker can be woken: the clock does it later.

        Raises:
            Unavailable: neither server can take it now; it is to be sent again.
        """
        try:
            return self._put(delivery)
        except RedisUnavailable as error:
            log.debug("inbox.unavailable", reason=str(error))
        try:
            with self._postgres.guard():
                BackgroundCall(lambda: self._write(delivery)).result(SPOOL_TIMEOUT_SECONDS)
        except PostgresUnavailable as error:
            raise Unavailable(f"neither Redis nor Postgres can take it; {error}") from error
        return None

    def _put(self, delivery: Delivery) -> PutResult:
        if monotonic() < self._full_until:
            raise RedisUnavailable(f"{self._limit} events wait in the inbox already")
        with self._redis.guard():
            put = self._inbox.put(delivery)
        if put.length >= self._limit:
            # This one is in; the next ones go to Postgres for a moment, then one tries again.
            self._full_until = monotonic() + OPEN_SECONDS
        return put

    def _write(self, delivery: Delivery) -> None:
        try:
            with transaction(self._engine, SPOOL_TIMEOUT_SECONDS) as connection:
                spool.put(connection, delivery)
        except (SchemaOutdated, DBAPIError) as error:
            raise PostgresUnavailable(f"Postgres refuses: {type(error).__name__}") from error
