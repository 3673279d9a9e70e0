"""The drain: merges the deliveries in the inbox and the spool, a batch at a time, each event once.

A batch is one transaction; its entries leave the inbox after the commit, or the spool with it. A batch that fails, for
whatever reason but a server that is unavailable, is applied one event at a time. The event that fails alone ends as
`dead`, and a GET is requested for its model; one that only a lock is in the way of stays where it is, for the next
drain.

Why: `docs/decisions/0013-batches-that-fail.md`.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from service.broker.inbox import MAX_READ_BYTES
from service.errors import LockUnavailable, SchemaOutdated, StatementTimeout, Stopping, Unavailable
from service.mirror.apply import Part, apply_parts
from service.mirror.batches import BATCH_SIZE, parts_by_model
from service.mirror.observe import SIGNATURE_RESOLUTION
from service.mirror.set_aside import refusal_of
from service.mirror.webhooks import Event, read, row
from service.storage import set_aside, spool
from service.storage.database import transaction
from service.storage.merged import MergedRows
from service.storage.refetches import RefetchReason, RefetchRequest
from service.storage.set_aside import SetAsideRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from service.broker.inbox import Delivery, Inbox
    from service.mirror.merging_batch import BatchResult

    Merge = Callable[[Connection, Sequence[Event]], "DrainResult"]

log = structlog.get_logger(__name__)

# How long a statement of a batch may take and wait for a lock; a batch takes less than a second.
BATCH_STATEMENT_SECONDS = 20.0
BATCH_LOCK_SECONDS = 5.0
# Alone, an event waits for a lock for this long; the others do not wait for it.
ALONE_LOCK_SECONDS = 0.5
ALONE_STATEMENT_SECONDS = 10.0
# Where this many events in a row cannot get a lock, no event can.
MAX_CONSECUTIVE_LOCKED = 20
# After this the rest of the batch is left to the next read: SIGTERM and the job's end are checked in between.
ONE_BY_ONE_SECONDS = 30.0
# No setting accepts a signature from further ahead.
LATEST_SIGNATURE = timedelta(hours=1)

UNUSABLE = "a webhook event has them with another type, out of range or too long"


class DrainResult(NamedTuple):
    """The result of a batch.

    Attributes:
        results: how many events ended with each status, redelivered ones under `repeated`.
        requested: for how many models a GET was requested.
        entries: the deliveries that were applied.
        left: events that were not applied, because of a lock or because the time was up.
        last_change_id: the last change that one transaction wrote; None where it wrote none.
    """

    results: Counter[str]
    requested: int
    entries: Sequence[Delivery] = ()
    left: Sequence[Event] = ()
    last_change_id: int | None = None

    def __add__(self, other: Any) -> DrainResult:
        """The result of both."""
        return DrainResult(
            self.results + other.results, self.requested + other.requested, (), (*self.left, *other.left)
        )

    def of(self, entries: Sequence[Delivery]) -> DrainResult:
        """With those of a batch's deliveries that were applied."""
        left = {entry.entry_id for event in self.left for entry in event.deliveries}
        return self._replace(entries=[entry for entry in entries if entry.entry_id not in left])


NOTHING_DRAINED = DrainResult(Counter(), 0)


def drain_batch(
    engine: Engine,
    inbox: Inbox,
    entries: Sequence[Delivery],
    tolerance: timedelta,
    events: Sequence[Event] | None = None,
) -> DrainResult:
    """Apply entries of the inbox in one transaction, then take them out of it.

    Args:
        engine: the mirror's Postgres.
        inbox: it holds the entries.
        entries: of one transaction.
        tolerance: how far the times of events may lie ahead of their signatures.
        events: those of the entries, where they were read already; they are not used a second time.

    Raises:
        PostgresUnavailable: nothing was applied, or not all; the entries stay where they are.
        RedisUnavailable: all was applied, but the entries could not be taken out; they will change nothing again.
    """
    try:
        with transaction(engine, BATCH_STATEMENT_SECONDS, BATCH_LOCK_SECONDS, by_key=True) as connection:
            drained = _merge_new(connection, events or read(entries, tolerance))
    except Exception as error:  # noqa: BLE001 - whatever one event makes of our code, the others are applied
        drained = apply_one_by_one(engine, read(entries, tolerance), _merge_new, error)
    drained = drained.of(entries)
    inbox.done(drained.entries)
    log.info("batch", kept="inbox", entries=len(drained.entries), **drained.results)
    return drained


def drain_spool(engine: Engine, tolerance: timedelta) -> DrainResult:
    """Apply the oldest deliveries in the spool, but those that another drain is applying.

    Raises:
        PostgresUnavailable: nothing was applied, or not all; those deliveries stay where they are.
    """
    entries: list[Delivery] = []
    try:
        with transaction(engine, BATCH_STATEMENT_SECONDS, BATCH_LOCK_SECONDS, by_key=True) as connection:
            entries = spool.take(connection, BATCH_SIZE, MAX_READ_BYTES)
            drained = _merge_new(connection, read(entries, tolerance)) if entries else NOTHING_DRAINED
    except Exception as error:  # noqa: BLE001 - see `drain_batch`
        drained = apply_one_by_one(engine, read(entries, tolerance), _merge_spooled, error)
    if entries:
        drained = drained.of(entries)
        log.info("batch", kept="spool", entries=len(drained.entries), **drained.results)
    return drained


def apply_one_by_one(engine: Engine, batch: Sequence[Event], merge: Merge, error: Exception) -> DrainResult:
    """Merge each event of a batch that failed in a transaction of its own; one that fails alone ends as dead.

    Args:
        engine: the mirror's Postgres.
        batch: the events, read anew.
        merge: merges and records events in a transaction.
        error: why the batch failed.

    Returns:
        The result; events whose row another transaction locks are left, as are all when the time is up.

    Raises:
        Exception: the error itself, where the batch is empty or a server is unavailable.
        PostgresUnavailable: some were not applied.
    """
    if not batch or _is_transient(error):
        raise error
    log.warning("batch.split", events=len(batch), reason=type(error).__name__)
    drained, locked, deadline = NOTHING_DRAINED, 0, monotonic() + ONE_BY_ONE_SECONDS
    for place, event in enumerate(batch):
        if monotonic() > deadline:
            return drained._replace(left=(*drained.left, *batch[place:]))
        try:
            drained += _apply_alone_or_mark_dead(engine, event, merge)
            locked = 0
        except LockUnavailable:
            locked += 1
            if locked == MAX_CONSECUTIVE_LOCKED:
                raise
            log.warning("event.locked", event_id=event.event_id)
            drained = drained._replace(left=(*drained.left, event))
        except Exception as refusal:
            if _is_transient(refusal):
                raise
            # Postgres keeps it in no form: it waits where it is, for a person, and the others go on.
            log.error("event.not_stored", event_id=event.event_id, reason=type(refusal).__name__)
            drained = drained._replace(left=(*drained.left, event))
    return drained


def _is_transient(error: Exception) -> bool:
    """Whether an error says nothing about the events: the same ones may be applied later."""
    return isinstance(error, Unavailable | SchemaOutdated | Stopping) and not isinstance(
        error, StatementTimeout | LockUnavailable
    )


def merge_events(
    connection: Connection,
    parts: Sequence[Sequence[Event]],
    record: Callable[[BatchResult, Sequence[Event]], MergedRows | None],
    event_ids: Sequence[str] = (),
) -> DrainResult:
    """Merge the observations of events, and set their statuses.

    Args:
        connection: a transaction.
        parts: events, each once, as `batches.parts_by_model` gives them or in one part.
        record: writes the rows of a part's events or returns them, when their statuses are known; it takes the result
            of the part.
        event_ids: those of the events that may have been processed before; then they change nothing.
    """

    def write_events(batch: Sequence[Event], applied: BatchResult) -> MergedRows:
        fresh = [event for event in batch if event.event_id not in applied.repeated]
        about_models = [event for event in fresh if event.observation]
        for event, contributed in zip(about_models, applied.contributed, strict=True):
            event.status = "applied" if contributed else "stale"
        set_aside.note(
            connection, [SetAsideRecord(event.model_id, event.unusable, UNUSABLE) for event in fresh if event.unusable]
        )
        requests = [request for event in fresh if (request := refetch_request_of(event))]
        return (record(applied, batch) or MergedRows())._replace(requests=requests)

    observed = [
        Part([event.observation for event in batch if event.observation], partial(write_events, batch))
        for batch in parts
    ]
    events = [event for batch in parts for event in batch]
    applied = apply_parts(connection, observed, "webhook", event_ids=event_ids, unread=_unread(events))
    results = Counter("repeated" if event.event_id in applied[0].repeated else event.status for event in events)
    return DrainResult(results, sum(len(one.requests) for one in applied), last_change_id=applied[0].last_change_id)


def _unread(batch: Sequence[Event]) -> set[str]:
    """Models of which events show nothing: whether they were erased, only the table says."""
    return {event.model_id for event in batch if event.model_id and not event.observation}


def refetch_request_of(event: Event) -> RefetchRequest | None:
    """A refetch request for a dead event about a model: a GET sent after it was signed shows what happened."""
    if event.status != "dead" or event.model_id is None:
        return None
    now = datetime.now(UTC)
    # No delivery was signed much later than now; one that says so was written by hand.
    after = min(event.deliveries[0].signed_at, now + LATEST_SIGNATURE) + SIGNATURE_RESOLUTION
    return RefetchRequest.later_than(after, event.model_id, RefetchReason.DEAD_EVENT, now)


def _merge_new(connection: Connection, batch: Sequence[Event]) -> DrainResult:
    """Merge those events that were not processed before, and record every delivery."""

    def record(applied: BatchResult, events: Sequence[Event]) -> MergedRows:
        return MergedRows(events=[row(event) for event in events], maybe_erased=[*(applied.erased | _unread(events))])

    # What is set aside is written while the rows of its part are made.
    whole = any(event.unusable for event in batch)
    parts = [batch] if whole else parts_by_model(batch)
    return merge_events(connection, parts, record, [event.event_id for event in batch])


def _merge_spooled(connection: Connection, batch: Sequence[Event]) -> DrainResult:
    """The same with events of the spool, which they leave; those that another drain took meanwhile are its own."""
    ids = [int(entry.entry_id) for event in batch for entry in event.deliveries]
    return _merge_new(connection, batch) if spool.remove(connection, ids) else NOTHING_DRAINED


def _apply_alone(engine: Engine, event: Event, merge: Merge) -> DrainResult:
    with transaction(engine, ALONE_STATEMENT_SECONDS, ALONE_LOCK_SECONDS, by_key=True) as connection:
        return merge(connection, [event])


def _apply_alone_or_mark_dead(engine: Engine, event: Event, merge: Merge) -> DrainResult:
    try:
        return _apply_alone(engine, event, merge)
    except Exception as error:
        if isinstance(error, LockUnavailable) or _is_transient(error):
            raise
        return _mark_dead(engine, event, merge, error)


def _mark_dead(engine: Engine, event: Event, merge: Merge, error: Exception) -> DrainResult:
    """Keep an event that fails alone as dead, with the error's name only: its message may hold personal data."""
    event.observation, event.unusable, event.status = None, (), "dead"
    event.error = refusal_of(error)
    log.error("event.dead", event_id=event.event_id, error=event.error)
    # The payload itself may be refused: nested too deep for `jsonb`, or with letters that the database has not.
    for form in ("text", "ascii"):
        try:
            return _apply_alone(engine, event, merge)
        except Exception as second:
            if _is_transient(second) or isinstance(second, StatementTimeout | LockUnavailable):
                raise
            event.store_as(form)
    return _apply_alone(engine, event, merge)
