"""The drain: what the inbox and the spool hold becomes merged rows, a batch at a time, each event once.

A batch is one transaction; its entries leave the inbox after the commit, or the spool with it. A batch that fails, for
whatever reason but a server that is unavailable, is applied one event at a time. The event that fails alone ends as
`dead`, and a GET is requested for its model; one that only a lock is in the way of stays where it is, for the next
drain.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy.exc import DBAPIError

from service.broker.inbox import MOST_BYTES, Entry
from service.errors import LockUnavailable, SchemaOutdated, StatementTimeout, Stopping, Unavailable
from service.mirror.apply import SETTLING, Applied, Sighting, apply
from service.mirror.batches import BATCH
from service.mirror.observe import SIGNATURE_RESOLUTION
from service.mirror.webhooks import Event, read, row, why
from service.storage import events, set_aside, spool
from service.storage.database import transaction
from service.storage.refetches import Wish
from service.storage.set_aside import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from service.broker.inbox import Inbox

    Merge = Callable[[Connection, Sequence[Event]], "Drained"]

log = structlog.get_logger(__name__)

# How long a statement of a batch may take and wait for a lock; a batch takes less than a second.
BATCH_STATEMENT_SECONDS = 20.0
BATCH_LOCK_SECONDS = 5.0
# Alone, an event waits for a lock for this long; the others do not wait for it.
ALONE_LOCK_SECONDS = 0.5
ALONE_STATEMENT_SECONDS = 10.0
# Where this many events in a row cannot get a lock, no event can.
MOST_LOCKED = 20
# After this the rest of the batch is left to the next read: SIGTERM and the job's end are checked in between.
ONE_BY_ONE_SECONDS = 30.0
# No setting accepts a signature from further ahead.
LATEST_SIGNATURE = timedelta(hours=1)

UNUSABLE = "a webhook event has them with another type, out of range or too long"


class Drained(NamedTuple):
    """What became of a batch.

    Attributes:
        results: how many events ended with each status, redelivered ones under `repeated`.
        asked: how many questions came up.
        entries: the deliveries that were applied.
        left: events that were not applied, because of a lock or for want of time.
    """

    results: Counter[str]
    asked: int
    entries: Sequence[Entry] = ()
    left: Sequence[Event] = ()

    def __add__(self, other: Any) -> Drained:
        """What became of both."""
        return Drained(self.results + other.results, self.asked + other.asked, (), (*self.left, *other.left))

    def of(self, entries: Sequence[Entry]) -> Drained:
        """With those of a batch's deliveries that were applied."""
        left = {entry.entry_id for event in self.left for entry in event.deliveries}
        return self._replace(entries=[entry for entry in entries if entry.entry_id not in left])


NOTHING = Drained(Counter(), 0)


def drain_batch(engine: Engine, inbox: Inbox, entries: Sequence[Entry], tolerance: timedelta) -> Drained:
    """Apply entries of the inbox in one transaction, then take them out of it.

    Raises:
        StorageUnavailable: nothing was applied, or not all; the entries stay where they are.
        InboxUnavailable: all was applied, but the entries could not be taken out; they will change nothing again.
    """
    try:
        with transaction(engine, BATCH_STATEMENT_SECONDS, BATCH_LOCK_SECONDS, by_key=True) as connection:
            drained = _merge_new(connection, read(entries, tolerance))
    except Exception as error:  # noqa: BLE001 - whatever one event makes of our code, the others are applied
        drained = one_by_one(engine, read(entries, tolerance), _merge_new, error)
    drained = drained.of(entries)
    inbox.done(drained.entries)
    log.info("batch", kept="inbox", entries=len(drained.entries), **drained.results)
    return drained


def drain_spool(engine: Engine, tolerance: timedelta) -> Drained:
    """Apply what waits longest in the spool; what another drain is applying is left to it.

    Raises:
        StorageUnavailable: nothing was applied, or not all; those deliveries stay where they are.
    """
    entries: list[Entry] = []
    try:
        with transaction(engine, BATCH_STATEMENT_SECONDS, BATCH_LOCK_SECONDS, by_key=True) as connection:
            entries = [_entry(kept) for kept in spool.take(connection, BATCH, MOST_BYTES)]
            drained = _merge_new(connection, read(entries, tolerance)) if entries else NOTHING
    except Exception as error:  # noqa: BLE001 - see `drain_batch`
        drained = one_by_one(engine, read(entries, tolerance), _merge_spooled, error)
    if entries:
        drained = drained.of(entries)
        log.info("batch", kept="spool", entries=len(drained.entries), **drained.results)
    return drained


def one_by_one(engine: Engine, batch: Sequence[Event], merge: Merge, error: Exception) -> Drained:
    """Merge each event of a batch that failed in a transaction of its own; one that fails alone ends as dead.

    Args:
        engine: the mirror's Postgres.
        batch: the events, read anew.
        merge: merges and records events in a transaction.
        error: why the batch failed.

    Returns:
        What became of them; events that a lock is in the way of are left, as are all when the time is up.

    Raises:
        Exception: the error itself, where there is no batch or it says that a server is unavailable.
        StorageUnavailable: some were not applied.
    """
    if not batch or _is_nobodys_fault(error):
        raise error
    log.warning("batch.split", events=len(batch), reason=type(error).__name__)
    drained, locked, deadline = NOTHING, 0, monotonic() + ONE_BY_ONE_SECONDS
    for place, event in enumerate(batch):
        if monotonic() > deadline:
            return drained._replace(left=(*drained.left, *batch[place:]))
        try:
            drained += _alone_or_dead(engine, event, merge)
            locked = 0
        except LockUnavailable:
            locked += 1
            if locked == MOST_LOCKED:
                raise
            log.warning("event.locked", event_id=event.event_id)
            drained = drained._replace(left=(*drained.left, event))
        except Exception as refusal:
            if _is_nobodys_fault(refusal):
                raise
            # Postgres keeps it in no form: it waits where it is, for a person, and the others go on.
            log.error("event.not_kept", event_id=event.event_id, reason=type(refusal).__name__)
            drained = drained._replace(left=(*drained.left, event))
    return drained


def _is_nobodys_fault(error: Exception) -> bool:
    """Whether an error says nothing about the events: the same ones may be applied later."""
    return isinstance(error, Unavailable | SchemaOutdated | Stopping) and not isinstance(
        error, StatementTimeout | LockUnavailable
    )


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
        set_aside.note(
            connection, [SetAside(event.model_id, event.unusable, UNUSABLE) for event in batch if event.unusable]
        )

    wanted = [wish for event in batch if (wish := _wish(event))]
    asked = len(apply(connection, sightings, record=settle, wanted=wanted).asked)
    return Drained(Counter(event.status for event in batch), asked)


def _wish(event: Event) -> Wish | None:
    """A refetch request for a dead event about a model: a GET sent after it was signed shows what happened."""
    if event.status != "dead" or event.model_id is None:
        return None
    now = datetime.now(UTC)
    # No delivery was signed much later than now; one that says so was written by hand.
    after = min(event.deliveries[0].signed_at, now + LATEST_SIGNATURE) + SIGNATURE_RESOLUTION
    return Wish(event.model_id, after, "dead_event", max(now, after + SETTLING))


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
    return Entry(str(kept["id"]), delivery_id, kept["body"], _signed_at(kept), kept["received_at"], kept["event_id"])


def _signed_at(kept: dict[str, Any]) -> datetime:
    """A spooled delivery's signed timestamp; its arrival where a person wrote a number that is no time."""
    try:
        return datetime.fromtimestamp(kept["signed_at"], UTC)
    except (ValueError, OverflowError, OSError):
        received: datetime = kept["received_at"]
        return received


def _alone(engine: Engine, event: Event, merge: Merge) -> Drained:
    with transaction(engine, ALONE_STATEMENT_SECONDS, ALONE_LOCK_SECONDS, by_key=True) as connection:
        return merge(connection, [event])


def _alone_or_dead(engine: Engine, event: Event, merge: Merge) -> Drained:
    try:
        return _alone(engine, event, merge)
    except Exception as error:
        if isinstance(error, LockUnavailable) or _is_nobodys_fault(error):
            raise
        return _bury(engine, event, merge, error)


def _bury(engine: Engine, event: Event, merge: Merge, error: Exception) -> Drained:
    """Keep an event that fails alone as dead; the words of an error may hold personal data, so only its name."""
    event.observation, event.unusable, event.status = None, (), "dead"
    event.error = f"Postgres refused it: {type(error.orig).__name__}" if isinstance(error, DBAPIError) else why(error)
    log.error("event.dead", event_id=event.event_id, error=event.error)
    # The payload itself may be refused: nested too deep for `jsonb`, or with letters that the database has not.
    for form in ("text", "ascii"):
        try:
            return _alone(engine, event, merge)
        except Exception as second:
            if _is_nobodys_fault(second) or isinstance(second, StatementTimeout | LockUnavailable):
                raise
            event.keep_as(form)
    return _alone(engine, event, merge)
