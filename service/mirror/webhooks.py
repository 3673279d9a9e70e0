"""An event, from its deliveries to its row of `webhook_events`: its observation, or why it has none. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Raw, structs

from service.broker.inbox import Delivery
from service.errors import MirrorError, UpstreamMalformed
from service.mirror.observe import event_time, from_webhook
from service.upstream.fields import MAX_ID_BYTES, is_valid_model_id
from service.upstream.json_text import loads, storable
from service.upstream.login_links import without_login_links
from service.upstream.payloads import decode_webhook, event_id_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from service.mirror.merge import Observation
    from service.upstream.payloads import WebhookBody, WebhookModel


@dataclass(slots=True)
class Event:
    """One event of a batch, however often it was delivered in it.

    Attributes:
        deliveries: every entry that holds it, the first one first.
        event_id: the vendor's id, or our digest.
        name: the vendor's name of what happened; empty where the body is no webhook's.
        model_id: the model that it names; None where it names none, or by an id that no model can have.
        observation: what it reports of a model; None where it concerns none or cannot be read.
        unusable: fields of its object that were treated as absent, as the upstream spells them.
        stored_as: `json`; `text` where its payload is no JSON or is refused as such; `ascii` where the database has not
            all of its letters.
    """

    deliveries: list[Delivery]
    event_id: str
    name: str = ""
    model_id: str | None = None
    happened_at: datetime | None = None
    observation: Observation | None = None
    status: str = "ignored"
    error: str | None = None
    unusable: tuple[str, ...] = ()
    stored_as: str = "json"

    def store_as(self, form: str) -> None:
        """Choose the form in which the event's row is stored.

        A database may refuse letters beyond ASCII. In the form `ascii` an event id that has some becomes a digest,
        and a model id that has some is left out.
        """
        self.stored_as = form
        if form == "ascii":
            if self.event_id != _escape_to_ascii(self.event_id) or len(self.event_id) > MAX_ID_BYTES:
                first = self.deliveries[0]
                self.event_id = event_id_of(None, _signed(first), first.body)
            if self.model_id and not self.model_id.isascii():
                self.model_id = None


def read(entries: Sequence[Delivery], tolerance: timedelta) -> list[Event]:
    """The events of a batch, the oldest first, each once; their times may lie ahead of signatures by `tolerance`."""
    found: dict[str, Event] = {}
    for entry in entries:
        event = parse_event(entry, tolerance)
        if event.event_id in found:
            found[event.event_id].deliveries.append(entry)
        else:
            found[event.event_id] = event
    return list(found.values())


def parse_event(entry: Delivery, tolerance: timedelta) -> Event:
    """The event of one delivery; whatever is wrong with the body is the event's own error."""
    try:
        webhook, unusable = decode_webhook(entry.body)
        event_id = entry.event_id or event_id_of(webhook, _signed(entry), entry.body)
    except Exception as error:  # noqa: BLE001 - whatever one body makes of our code, its batch goes on
        event_id = entry.event_id or event_id_of(None, _signed(entry), entry.body)
        return Event([entry], event_id, status="dead", error=error_reason(error), stored_as="text")
    event = Event([entry], event_id, webhook.event, unusable=unusable)
    try:
        event.happened_at = event_time(webhook, entry.signed_at, tolerance)
        if webhook.model:
            _observe(event, webhook, webhook.model, tolerance)
    except Exception as error:  # noqa: BLE001 - see above
        event.status, event.error = "dead", error_reason(error)
    return event


def stored_event(kept: Mapping[str, Any], tolerance: timedelta) -> Event:
    """An event from its row of `webhook_events`, which holds a payload.

    Events of before its column have no signature; they were received after it.
    """
    payload = kept["payload"]
    # A body that is no JSON, or none that Postgres takes, is kept as text.
    body = payload if isinstance(payload, str) else json.dumps(payload)
    signed_at = kept["signed_at"] or kept["received_at"]
    delivery = Delivery(body.encode("utf-8", "replace"), signed_at, kept["received_at"], "", kept["id"])
    return parse_event(delivery, tolerance)


def error_reason(error: Exception) -> str:
    """The text of an error for `webhook_events.error`; of a library's error only the name: it may hold values."""
    return str(error) if isinstance(error, MirrorError) else f"it cannot be applied: {type(error).__name__}"


def _signed(entry: Delivery) -> int:
    return int(entry.signed_at.timestamp())


def _observe(event: Event, webhook: WebhookBody, model: WebhookModel, tolerance: timedelta) -> None:
    """Add the model and its observation to an event about it."""
    if not is_valid_model_id(model.object_id):
        raise UpstreamMalformed(f"webhook body: `object._id` is longer than {MAX_ID_BYTES} bytes or only dots")
    event.model_id = model.object_id
    seen = from_webhook(webhook, model, event.deliveries[0].signed_at, tolerance, event.event_id)
    # The status is what most depends on; where it cannot be read, a GET reads it.
    event.observation = (
        structs.replace(seen, needs_refetch=True)
        if "status" in event.unusable and not seen.deletion_evidence_at
        else seen
    )


def row(event: Event) -> dict[str, Any]:
    """The event's row of `webhook_events`."""
    entry = event.deliveries[0]
    # The web process takes links out already; an older one did not.
    body = without_login_links(entry.body)
    # Whatever a body is, it is kept for people to see.
    document = body if event.stored_as == "json" else json.dumps(body.decode("utf-8", "replace")).encode()
    columns = {
        "id": event.event_id,
        "event": event.name,
        "model_id": event.model_id,
        "status": event.status,
        "error": event.error,
        "payload": Raw(storable(document) if _may_be_refused(document) else document),
        "created_at": event.happened_at,
        "received_at": entry.received_at,
        "signed_at": entry.signed_at,
        "delivery_ids": [entry.delivery_id for entry in event.deliveries],
    }
    return _in_ascii(columns, body) if event.stored_as == "ascii" else columns


def _in_ascii(columns: dict[str, Any], body: bytes) -> dict[str, Any]:
    """A row that every database takes: letters beyond ASCII are escaped."""
    try:
        payload = json.dumps(loads(body))
    except ValueError:
        payload = body.decode("ascii", "backslashreplace")
    return {
        **columns,
        "event": _escape_to_ascii(columns["event"]),
        "error": _escape_to_ascii(columns["error"] or ""),
        "delivery_ids": [_escape_to_ascii(delivery_id) for delivery_id in columns["delivery_ids"]],
        "payload": Raw(json.dumps(payload).encode()),
    }


def _escape_to_ascii(value: str) -> str:
    return value.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")


# The characters of a number, and space. Without it, `e` is right behind one of the signs before a value only in an
# exponent; the signs are made one, so that one search is enough.
_FIGURES = b"0123456789.+- \t\r\n"
_ONE_SIGN = bytes.maketrans(b"E,[", b"e::")
_LONG_NUMBER = re.compile(rb"[0-9]{400}")


def _may_be_refused(body: bytes) -> bool:
    """Whether it may hold what `jsonb` refuses: escapes of NUL and of half a character, numbers past its range."""
    rest = body.translate(_ONE_SIGN, _FIGURES)
    return b"\\u" in body or b":e" in rest or (len(body) - len(rest) >= 400 and _LONG_NUMBER.search(body) is not None)
