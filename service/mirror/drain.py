"""The drain: what the inbox and the spool hold becomes merged rows, a batch at a time, each event once.

A batch is one transaction; its entries leave the inbox after the commit, or the spool with it. An event that cannot be
applied ends as `dead`, alone: where a batch fails for a reason that is not the server's, its events are applied one by
one.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy.exc import DBAPIError

from service.inbox import Entry
from service.mirror.apply import Applied, Sighting, apply
from service.mirror.event import Event, read, row
from service.mirror.lanes import BATCH
from service.storage import events, spool
from service.storage.database import pipeline, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

    from service.inbox import Inbox

    Merge = Callable[[Connection, Sequence[Event]], "Drained"]

log = structlog.get_logger(__name__)


class Drained(NamedTuple):
    """What became of a batch.

    Attributes:
        results: how many events ended with each status, redelivered ones under `repeated`.
        asked: how many questions came up.
        entries: the deliveries that it held.
    """

    results: Counter[str]
    asked: int
    entries: Sequence[Entry] = ()

    def __add__(self, other: Any) -> Drained:
        """What became of both."""
        return Drained(self.results + other.results, self.asked + other.asked)


NOTHING = Drained(Counter(), 0)


def drain_batch(engine: Engine, inbox: Inbox, entries: Sequence[Entry], tolerance: timedelta) -> Drained:
    """Apply entries of the inbox in one transaction, then take them out of it.

    Raises:
        StorageUnavailable: nothing was applied; the entries stay where they are.
        InboxUnavailable: all was applied, but the entries could not be taken out; they will change nothing again.
    """
    try:
        with pipeline(engine) as connection:
            drained = _merge_new(connection, read(entries, tolerance))
    except DBAPIError:
        drained = one_by_one(engine, read(entries, tolerance), _merge_new)
    inbox.done(entries)
    log.info("batch", kept="inbox", entries=len(entries), **drained.results)
    return drained._replace(entries=entries)


def drain_spool(engine: Engine, tolerance: timedelta) -> Drained:
    """Apply what waits longest in the spool; what another drain is applying is left to it.

    Raises:
        StorageUnavailable: nothing was applied; the deliveries stay where they are.
    """
    entries: list[Entry] = []
    try:
        with pipeline(engine) as connection:
            entries = [_entry(kept) for kept in spool.take(connection, BATCH)]
            drained = _merge_new(connection, read(entries, tolerance)) if entries else NOTHING
    except DBAPIError:
        drained = one_by_one(engine, read(entries, tolerance), _merge_spooled)
    if entries:
        log.info("batch", kept="spool", entries=len(entries), **drained.results)
    return drained._replace(entries=entries)


def one_by_one(engine: Engine, batch: Sequence[Event], merge: Merge) -> Drained:
    """Merge each event in a transaction of its own; one that Postgres refuses ends as dead, the others do not.

    Args:
        engine: the mirror's Postgres.
        batch: events of a batch that was refused as a whole.
        merge: merges and records events in a transaction.

    Raises:
        StorageUnavailable: some were not applied.
    """
    log.warning("batch.split", events=len(batch))
    drained = NOTHING
    for event in batch:
        try:
            drained += _alone(engine, event, merge)
        except DBAPIError as error:
            drained += _bury(engine, event, merge, error)
    return drained


def merge_events(connection: Connection, batch: Sequence[Event], record: Callable[[], None]) -> Drained:
    """Merge what events tell, and set their statuses.

    Args:
        connection: a transaction.
        batch: events, each once.
        record: writes the events' rows, when their statuses are known.
    """
    telling = [event for event in batch if event.observation]
    sightings = [
        Sighting(event.observation, "webhook", event_id=event.event_id) for event in telling if event.observation
    ]

    def settle(applied: Applied) -> None:
        for event, news in zip(telling, applied.news, strict=True):
            event.status = "applied" if news else "stale"
        record()

    asked = len(apply(connection, sightings, record=settle).asked)
    return Drained(Counter(event.status for event in batch), asked)


def _merge_new(connection: Connection, batch: Sequence[Event]) -> Drained:
    """Merge those events that were not processed before, and record every delivery."""
    repeated = events.processed(connection, [event.event_id for event in batch])
    fresh = [event for event in batch if event.event_id not in repeated]

    def record() -> None:
        events.record(connection, [row(event) for event in batch], datetime.now(UTC))

    drained = merge_events(connection, fresh, record)
    return drained + Drained(Counter(repeated=len(repeated)), 0)


def _merge_spooled(connection: Connection, batch: Sequence[Event]) -> Drained:
    """The same with events of the spool, which they leave; those that another drain took meanwhile are its own."""
    ids = [int(entry.entry_id) for event in batch for entry in event.deliveries]
    return _merge_new(connection, batch) if spool.remove(connection, ids) else NOTHING


def _entry(kept: dict[str, Any]) -> Entry:
    """A spooled delivery in the form of the inbox."""
    delivery_id = kept["delivery_id"] or f"spool-{kept['id']}"
    signed_at = datetime.fromtimestamp(kept["signed_at"], UTC)
    return Entry(str(kept["id"]), delivery_id, kept["body"], signed_at, kept["received_at"], kept["event_id"])


def _alone(engine: Engine, event: Event, merge: Merge) -> Drained:
    with transaction(engine) as connection:
        return merge(connection, [event])


def _bury(engine: Engine, event: Event, merge: Merge, error: DBAPIError) -> Drained:
    """Keep an event that Postgres refuses as dead; the refusal's own words may hold personal data, so only its name."""
    event.observation, event.status = None, "dead"
    event.error = f"Postgres refused it: {type(error.orig).__name__}"
    log.error("event.dead", event_id=event.event_id, error=event.error)
    try:
        return _alone(engine, event, merge)
    except DBAPIError:
        # The payload itself is refused; nested too deep, for one. As text anything is taken.
        event.as_text = True
        return _alone(engine, event, merge)
