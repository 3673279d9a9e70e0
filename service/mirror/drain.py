"""The drain: entries of the inbox become merged rows, a batch at a time, each event once.

A batch is one transaction; its entries leave the inbox after the commit. An event that cannot be applied ends as
`dead`, alone: where a batch fails for a reason that is not the server's, its entries are applied one by one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy.exc import DBAPIError

from service.errors import DeliveryRejected, UpstreamGarbled
from service.mirror.apply import Applied, Sighting, apply
from service.mirror.observe import event_time, from_webhook
from service.storage import events
from service.storage.database import transaction
from service.upstream.json_text import storable
from service.upstream.payloads import Envelope, decode_envelope, decode_webhook_model, event_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine

    from service.inbox import Entry, Inbox
    from service.mirror.merge import Observation

log = structlog.get_logger(__name__)

BATCH = 500

# Postgres' indexes take no longer key.
LONGEST_ID = 255


@dataclass(slots=True)
class Event:
    """One event of a batch, however often it was delivered in it.

    Attributes:
        envelope: what the door read; None where the body is not even that.
        entry: its first delivery.
        event_id: the vendor's id, or our digest.
        happened_at: when the vendor says it happened.
        observation: what it tells of a model; None where it concerns none or cannot be read.
        status: how it ends.
        error: why it is dead.
        deliveries: how often the batch holds it.
        as_text: its payload is kept as text: it is no JSON, or Postgres refuses it as such.
    """

    envelope: Envelope | None
    entry: Entry
    event_id: str
    happened_at: datetime | None = None
    observation: Observation | None = None
    status: str = "ignored"
    error: str | None = None
    deliveries: int = 1
    as_text: bool = False


class Drained(NamedTuple):
    """What became of a batch: events by their status, redelivered ones under `repeated`; questions that came up."""

    results: dict[str, int]
    asked: int


def drain_batch(engine: Engine, inbox: Inbox, entries: Sequence[Entry], tolerance: timedelta) -> Drained:
    """Apply entries in one transaction, then take them out of the inbox.

    Raises:
        StorageUnavailable: nothing was applied; the entries stay where they are.
        InboxUnavailable: all was applied, but the entries could not be taken out; they will change nothing again.
    """
    batch = _read(entries, tolerance)
    try:
        drained = _commit(engine, batch)
    except DBAPIError:
        log.warning("batch.split", events=len(batch))
        drained = _one_by_one(engine, batch)
    inbox.done(entries)
    log.info("batch", entries=len(entries), **drained.results)
    return drained


def _read(entries: Sequence[Entry], tolerance: timedelta) -> list[Event]:
    """The events of a batch, each once."""
    found: dict[str, Event] = {}
    for entry in entries:
        event = _event(entry, tolerance)
        if event.event_id in found:
            found[event.event_id].deliveries += 1
        else:
            found[event.event_id] = event
    return list(found.values())


def _event(entry: Entry, tolerance: timedelta) -> Event:
    """Decode an entry; whatever is wrong with it is the event's own error."""
    signed_at = int(entry.signed_at.timestamp())
    try:
        envelope = decode_envelope(entry.body)
    except DeliveryRejected as error:
        return Event(
            None, entry, event_id_of(None, signed_at, entry.body), status="dead", error=str(error), as_text=True
        )
    event = Event(envelope, entry, event_id_of(envelope, signed_at, entry.body))
    event.happened_at = event_time(envelope, entry.signed_at, tolerance)
    try:
        if envelope.model_id is not None:
            event.observation = _observation(entry, envelope, tolerance)
    except UpstreamGarbled as error:
        event.status, event.error = "dead", str(error)
    return event


def _observation(entry: Entry, envelope: Envelope, tolerance: timedelta) -> Observation:
    if len(envelope.model_id or "") > LONGEST_ID:
        raise UpstreamGarbled(f"webhook body: `object._id` is longer than {LONGEST_ID} characters")
    return from_webhook(envelope, decode_webhook_model(entry.body), entry.signed_at, tolerance)


def _commit(engine: Engine, batch: Sequence[Event]) -> Drained:
    """One transaction over a batch."""
    with transaction(engine) as connection:
        repeated = events.processed(connection, [event.event_id for event in batch])
        fresh = [event for event in batch if event.event_id not in repeated and event.observation]
        sightings = [
            Sighting(event.observation, "webhook", event_id=event.event_id) for event in fresh if event.observation
        ]

        def record(applied: Applied) -> None:
            for event, news in zip(fresh, applied.news, strict=True):
                event.status = "applied" if news else "stale"
            events.record(connection, [_row(event) for event in batch], datetime.now(UTC))

        asked = _apply(connection, sightings, record)
    results: dict[str, int] = {}
    for event in batch:
        result = "repeated" if event.event_id in repeated else event.status
        results[result] = results.get(result, 0) + 1
    return Drained(results, asked)


def _apply(connection: Connection, sightings: Sequence[Sighting], record: Any) -> int:
    return len(apply(connection, sightings, record=record).asked)


def _one_by_one(engine: Engine, batch: Sequence[Event]) -> Drained:
    """Apply each event in a transaction of its own; one that fails is dead, the others are not."""
    results: dict[str, int] = {}
    asked = 0
    for event in batch:
        try:
            drained = _commit(engine, [event])
        except DBAPIError as error:
            drained = _bury(engine, event, error)
        asked += drained.asked
        for result, count in drained.results.items():
            results[result] = results.get(result, 0) + count
    return Drained(results, asked)


def _bury(engine: Engine, event: Event, error: DBAPIError) -> Drained:
    """Keep an event that Postgres refuses as dead; the refusal's own words may hold personal data, so only its name."""
    event.observation, event.status = None, "dead"
    event.error = f"Postgres refused it: {type(error.orig).__name__}"
    log.error("event.dead", event_id=event.event_id, error=event.error)
    try:
        return _commit(engine, [event])
    except DBAPIError:
        # The payload itself is refused; nested too deep, for one. As text anything is taken.
        event.as_text = True
        return _commit(engine, [event])


def _row(event: Event) -> dict[str, Any]:
    """The event's row of `webhook_events`."""
    envelope, entry = event.envelope, event.entry
    model_id = envelope.model_id if envelope else None
    return {
        "id": event.event_id,
        "event": envelope.event if envelope else "",
        "model_id": model_id if model_id and len(model_id) <= LONGEST_ID else None,
        "status": event.status,
        "error": event.error,
        "payload": _payload(_quoted(entry.body) if event.as_text else entry.body),
        "created_at": event.happened_at,
        "received_at": entry.received_at,
        "deliveries": event.deliveries,
    }


# What `jsonb` may refuse: escapes of NUL and of half a character, exponents and integers past its range.
_DOUBTFUL = re.compile(rb"\\u|[0-9][eE][+-]?[0-9]{3}|[0-9]{400}")


def _payload(body: bytes) -> str:
    """A JSON body as `jsonb` takes it."""
    if not _DOUBTFUL.search(body):
        return body.decode()
    try:
        return storable(body).decode()
    except ValueError:
        # Nested deeper than can be mended.
        return storable(_quoted(body)).decode()


def _quoted(body: bytes) -> bytes:
    """A body as a JSON text: whatever it is, it is kept for the person who looks."""
    return json.dumps(body.decode("utf-8", "replace")).encode()
