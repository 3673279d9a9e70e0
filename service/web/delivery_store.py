"""Where a delivery becomes safe: in the inbox; where Redis cannot take it, in Postgres' spool; else nowhere."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog
from sqlalchemy.exc import DBAPIError

from service.circuit_breaker import FUSE_SECONDS, Fuse
from service.errors import InboxUnavailable, SchemaOutdated, StorageUnavailable, Unavailable
from service.storage import spool
from service.storage.database import transaction
from service.storage.deadline import Question

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.broker.inbox import Delivery, Put
    from service.web.group_commit import GroupCommit

log = structlog.get_logger(__name__)

# A delivery waits this long for Postgres at most, where Redis is gone.
SPOOL_PATIENCE_SECONDS = 3.0


class Kept(NamedTuple):
    """A delivery is safe.

    Attributes:
        where: `inbox` or `spool`.
        wake: whether the caller is to wake a worker: the flag that keeps others from doing so is raised.
    """

    where: str
    wake: bool


class Keeper:
    """Keeps deliveries; a server that is down costs one request a second its time-out, not every one.

    Args:
        inbox: the stream.
        engine: the mirror's Postgres, with a short time-out for connecting.
        limit: how many events may wait in the stream; where there are more, the spool takes them, so that Redis'
            memory is never full.
    """

    def __init__(self, inbox: GroupCommit, engine: Engine, limit: int) -> None:
        self._inbox = inbox
        self._engine = engine
        self._limit = limit
        self._full_until = 0.0
        self._redis = Fuse(InboxUnavailable, "Redis")
        self._postgres = Fuse(StorageUnavailable, "Postgres")

    def keep(self, delivery: Delivery) -> Kept:
        """Keep a delivery; it is safe when this returns.

        Where Redis was asked and did not answer, it may hold the delivery as well; its id makes it count once.

        Raises:
            Unavailable: neither server can take it now; it is to be sent again.
        """
        try:
            return Kept("inbox", wake=self._put(delivery).flag_raised)
        except InboxUnavailable as error:
            log.debug("inbox.refuses", reason=str(error))
        try:
            with self._postgres.guard():
                Question(lambda: self._write(delivery)).answer(SPOOL_PATIENCE_SECONDS)
        except StorageUnavailable as error:
            raise Unavailable(f"neither Redis nor Postgres can take it; {error}") from error
        # Where Redis is gone there is nobody to wake: the clock does it when it is back.
        return Kept("spool", wake=False)

    def _put(self, delivery: Delivery) -> Put:
        if monotonic() < self._full_until:
            raise InboxUnavailable(f"{self._limit} events wait in the inbox already")
        with self._redis.guard():
            put = self._inbox.put(delivery)
        if put.length >= self._limit:
            # This one is in; the next ones go elsewhere, until one looks again.
            self._full_until = monotonic() + FUSE_SECONDS
        return put

    def _write(self, delivery: Delivery) -> None:
        try:
            with transaction(self._engine, SPOOL_PATIENCE_SECONDS) as connection:
                spool.put(connection, *delivery)
        except (SchemaOutdated, DBAPIError) as error:
            raise StorageUnavailable(f"Postgres refuses: {type(error).__name__}") from error
