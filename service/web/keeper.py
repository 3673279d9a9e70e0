"""Where a delivery becomes safe: in the inbox; where Redis cannot take it, in Postgres' spool; else nowhere."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError

from service.errors import InboxUnavailable, SchemaOutdated, StorageUnavailable, Unavailable
from service.fuse import FUSE_SECONDS, Fuse
from service.storage import spool
from service.storage.database import transaction
from service.web.patience import Question

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.inbox import Delivery, Inbox

log = structlog.get_logger(__name__)

# A delivery waits this long for Postgres at most, where Redis is gone.
SPOOL_PATIENCE_SECONDS = 3.0


class Keeper:
    """Keeps deliveries; a server that is down costs one request a second its time-out, not every one.

    Args:
        inbox: the stream.
        engine: the mirror's Postgres, with a short time-out for connecting.
        limit: how many events may wait in the stream; where there are more, the spool takes them, so that Redis'
            memory is never full.
    """

    def __init__(self, inbox: Inbox, engine: Engine, limit: int) -> None:
        self._inbox = inbox
        self._engine = engine
        self._limit = limit
        self._full_until = 0.0
        self._redis = Fuse(InboxUnavailable, "Redis")
        self._postgres = Fuse(StorageUnavailable, "Postgres")

    def keep(self, delivery: Delivery) -> str:
        """Keep a delivery; it is safe when this returns.

        Where Redis was asked and did not answer, it may hold the delivery as well; its id makes it count once.

        Returns:
            Where it is: `inbox` or `spool`.

        Raises:
            Unavailable: neither server can take it now; it is to be sent again.
        """
        try:
            self._put(delivery)
        except InboxUnavailable as error:
            log.debug("inbox.refuses", reason=str(error))
        else:
            return "inbox"
        try:
            with self._postgres.guard():
                Question(lambda: self._write(delivery)).answer(SPOOL_PATIENCE_SECONDS)
        except StorageUnavailable as error:
            raise Unavailable(f"neither Redis nor Postgres can take it; {error}") from error
        return "spool"

    def _put(self, delivery: Delivery) -> None:
        if monotonic() < self._full_until:
            raise InboxUnavailable(f"{self._limit} events wait in the inbox already")
        with self._redis.guard():
            length = self._inbox.put(delivery)
        if length >= self._limit:
            # This one is in; the next ones go elsewhere, until one looks again.
            self._full_until = monotonic() + FUSE_SECONDS

    def _write(self, delivery: Delivery) -> None:
        try:
            with transaction(self._engine) as connection:
                spool.put(connection, *delivery)
        except (SchemaOutdated, DBAPIError) as error:
            raise StorageUnavailable(f"Postgres refuses: {type(error).__name__}") from error
