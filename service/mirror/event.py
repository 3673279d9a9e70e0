"""An event, from its deliveries to its row of `webhook_events`: what it tells, or why it cannot be told. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from service.errors import DeliveryRejected, UpstreamGarbled
from service.mirror.observe import event_time, from_webhook
from service.upstream.json_text import storable
from service.upstream.payloads import Envelope, decode_envelope, decode_webhook_model, event_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from service.inbox import Entry
    from service.mirror.merge import Observation

# Postgres' indexes take no longer key.
LONGEST_ID = 255


@dataclass(slots=True)
class Event:
    """One event of a batch, however often it was delivered in it.

    Attributes:
        envelope: what the door read; None where the body is not even that.
        deliveries: every entry that holds it, the first one first.
        event_id: the vendor's id, or our digest.
        happened_at: when the vendor says it happened.
        observation: what it tells of a model; None where it concerns none or cannot be read.
        status: how it ends.
        error: why it is dead.
        as_text: its payload is kept as text: it is no JSON, or Postgres refuses it as such.
    """

    envelope: Envelope | None
    deliveries: list[Entry]
    event_id: str
    happened_at: datetime | None = None
    observation: Observation | None = None
    status: str = "ignored"
    error: str | None = None
    as_text: bool = False

    @property
    def body(self) -> bytes:
        """The raw body of its first delivery."""
        return self.deliveries[0].body


def read(entries: Sequence[Entry], tolerance: timedelta) -> list[Event]:
    """The events of a batch, each once.

    Args:
        entries: deliveries, the oldest first.
        tolerance: how far an event's own time may lie ahead of its signature.
    """
    found: dict[str, Event] = {}
    for entry in entries:
        event = event_of(entry, tolerance)
        if event.event_id in found:
            found[event.event_id].deliveries.append(entry)
        else:
            found[event.event_id] = event
    return list(found.values())


def event_of(entry: Entry, tolerance: timedelta) -> Event:
    """The event that one delivery tells; whatever is wrong with it is the event's own error."""
    signed_at = int(entry.signed_at.timestamp())
    try:
        envelope = decode_envelope(entry.body)
    except DeliveryRejected as error:
        return Event(
            None, [entry], event_id_of(None, signed_at, entry.body), status="dead", error=str(error), as_text=True
        )
    event = Event(envelope, [entry], event_id_of(envelope, signed_at, entry.body))
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


def row(event: Event) -> dict[str, Any]:
    """The event's row of `webhook_events`."""
    envelope, entry = event.envelope, event.deliveries[0]
    model_id = envelope.model_id if envelope else None
    return {
        "id": event.event_id,
        "event": envelope.event if envelope else "",
        "model_id": model_id if model_id and len(model_id) <= LONGEST_ID else None,
        "status": event.status,
        "error": event.error,
        "payload": Raw(_payload(_quoted(entry.body) if event.as_text else entry.body)),
        "created_at": event.happened_at,
        "received_at": entry.received_at,
        "signed_at": entry.signed_at,
        "delivery_ids": [entry.delivery_id for entry in event.deliveries],
    }


# What a number is made of, and space. Without it, `e` stands right behind one of the signs before a value only in an
# exponent; the signs are made one, so that one look is enough.
_FIGURES = b"0123456789.+- \t\r\n"
_ONE_SIGN = bytes.maketrans(b"E,[", b"e::")
_LONG_NUMBER = re.compile(rb"[0-9]{400}")


def _payload(body: bytes) -> bytes:
    """A JSON body as `jsonb` takes it."""
    if not _doubtful(body):
        return body
    try:
        return storable(body)
    except ValueError:
        # Nested deeper than can be mended.
        return storable(_quoted(body))


def _doubtful(body: bytes) -> bool:
    """Whether it may hold what `jsonb` refuses: escapes of NUL and of half a character, numbers past its range."""
    rest = body.translate(_ONE_SIGN, _FIGURES)
    return b"\\u" in body or b":e" in rest or (len(body) - len(rest) >= 400 and _LONG_NUMBER.search(body) is not None)


def _quoted(body: bytes) -> bytes:
    """A body as a JSON text: whatever it is, it is kept for the person who looks."""
    return json.dumps(body.decode("utf-8", "replace")).encode()
