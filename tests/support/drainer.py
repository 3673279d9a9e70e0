"""One drain in a test's hands: put deliveries, apply them in batches, look at what was written."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.broker.client import connect_redis
from service.broker.inbox import GROUP, RECLAIM_AFTER_MS, STREAM, Delivery, Inbox, InboxDepth
from service.mirror import drain
from service.mirror.batches import BATCH_SIZE
from service.mirror.drain import DrainResult, drain_batch
from service.storage import database
from tests.support.system import model_row, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from sqlalchemy import Engine

TOLERANCE = timedelta(seconds=300)
# Far enough from now that no clock of a machine matters.
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def minutes(number: float) -> datetime:
    """So long after T0."""
    return T0 + timedelta(minutes=number)


def raw(document: dict[str, Any]) -> bytes:
    """A body."""
    return json.dumps(document).encode()


def forbid_single_event_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that Postgres refuses fails the test; else its events would be applied one by one, unseen."""

    def fail(*_given: object) -> None:
        raise AssertionError("the batch was refused")

    monkeypatch.setattr(drain, "apply_one_by_one", fail)


class Drainer:
    """A connection to each server; the same things that a worker's drain has."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.url = database_url
        self.engine: Engine = database.connect(database_url)
        self.client: Any = connect_redis(redis_url)
        self.box = Inbox(self.client)

    def put(self, *bodies: bytes, signed_at: datetime | None = None) -> None:
        """Put deliveries into the inbox, as the endpoint does."""
        signed = int((signed_at or datetime.now(UTC)).timestamp())
        for body in bodies:
            self.box.put(Delivery.arrived(body, signed, datetime.now(UTC)))

    def drain(self, count: int = BATCH_SIZE) -> DrainResult:
        """Apply one batch."""
        return drain_batch(self.engine, self.box, self.box.read(count, 0), TOLERANCE)

    def take(self, *bodies: bytes, signed_at: datetime | None = None) -> dict[str, int]:
        """Put deliveries and apply them in one batch: how many events ended how."""
        self.put(*bodies, signed_at=signed_at)
        return self.drain().results

    def row(self, model_id: str) -> dict[str, Any]:
        """A model's row."""
        found = model_row(self.url, model_id)
        assert found is not None
        return found

    def event(self, event_id: str) -> dict[str, Any]:
        """An event's row."""
        (found,) = rows(self.url, "select * from headshotpro.webhook_events where id = %s", event_id)
        return found

    def changes(self, model_id: str) -> list[dict[str, Any]]:
        """A model's history, oldest first."""
        return rows(self.url, "select * from headshotpro.model_changes where model_id = %s order by id", model_id)

    def age_pending_entries(self) -> None:
        """Make the entries in flight as old as if their consumers had died."""
        for waiting in self.client.xpending_range(STREAM, GROUP, "-", "+", 10_000):
            self.client.xclaim(STREAM, GROUP, waiting["consumer"], 0, [waiting["message_id"]], idle=RECLAIM_AFTER_MS)

    def assert_empty(self) -> None:
        """No entry is left in the inbox, read or unread."""
        assert self.box.depth() == InboxDepth(0, None)
        assert self.client.xpending(STREAM, GROUP)["pending"] == 0

    def close(self) -> None:
        """End both connections."""
        self.engine.dispose()
        self.client.close()


@contextmanager
def opened(database_url: str, redis_url: str) -> Iterator[Drainer]:
    """A drain that ends with the block."""
    drainer = Drainer(database_url, redis_url)
    try:
        yield drainer
    finally:
        drainer.close()
