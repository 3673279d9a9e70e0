"""The preview of a replay: the changes that merging a kept event again would make, by the same merge, without a write.

A person confirms a preview. `Preview.token` is a digest of the row and of all that the preview says, so that an act
can find out whether something else would happen by now. It is keyed: a page may hide names that the digest covers, and
without a key a guess of one could be tried against it.

Why: `docs/decisions/0041-previews-of-replays.md`.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from service.mirror.apply import foresee
from service.mirror.drain import refetch_request_of
from service.mirror.webhooks import stored_event
from service.model_fields import DELETED
from service.storage import console_secret, history, models
from service.storage.merged import lock
from service.storage.refetches import RefetchReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from service.mirror.merging_batch import BatchResult
    from service.mirror.webhooks import Event

_WHY_GET = {
    RefetchReason.DISPUTE: "only a GET settles what it reports",
    RefetchReason.PROFILE: "no response of the API has shown the model yet",
    RefetchReason.DEAD_EVENT: "the event cannot be applied",
}


class Preview(NamedTuple):
    """The effect that a replay would have now.

    Attributes:
        changed: column to [old, new], as `model_changes` would have it.
        before: the event's outcome now.
        reason: why nothing would change; empty where something would.
        consequences: what else would happen, a sentence each.
        token: keyed digest of the event's id, the model's row and all of this.
        is_possible: False where no body is kept.
    """

    changed: Mapping[str, Sequence[Any]]
    before: str
    after: str
    reason: str
    consequences: tuple[str, ...]
    token: str = ""
    is_possible: bool = True


def preview(connection: Connection, kept: Mapping[str, Any], tolerance: timedelta, *, locks: bool = False) -> Preview:
    """The effect that a replay of an event would have.

    With `locks` its model is locked, so that the preview stays true until the transaction ends.
    """
    if kept["payload"] is None:
        reason = "no body is kept: the personal data of its model was erased"
        return Preview({}, kept["status"], kept["status"], reason, (), is_possible=False)
    event = stored_event(kept, tolerance)
    ids = [event.model_id] if event.model_id else []
    if locks:
        lock(connection, ids)
    row = models.read(connection, ids).get(event.model_id or "")
    seen = [event.observation] if event.observation else []
    request = refetch_request_of(event)
    foreseen = foresee(connection, seen, "webhook", requests=[request] if request else [])
    found = _describe(kept, event, row, foreseen)
    return found._replace(token=_token(connection, kept["id"], found, row))


def _describe(kept: Mapping[str, Any], event: Event, row: Mapping[str, Any] | None, foreseen: BatchResult) -> Preview:
    contributes = any(foreseen.contributed)
    after = event.status
    if event.observation:
        # An event that was applied stays so, though it is older than the row by now.
        after = "applied" if contributes or kept["status"] == "applied" else "stale"
    changes = foreseen.changes
    changed = changes[0]["changed"] if changes else {}
    reason = "" if changed else _why_nothing(event, row, contributes=contributes)
    return Preview(changed, kept["status"], after, reason, tuple(_consequences(event, row, foreseen)))


def _why_nothing(event: Event, row: Mapping[str, Any] | None, *, contributes: bool) -> str:
    seen = event.observation
    if event.status == "dead":
        return f"it still cannot be read: {event.error}"
    if seen is None or row is None:
        return "it is about no model"
    if not contributes:
        return "the mirror knows something newer of all that it reports"
    if row["status"] == DELETED and not seen.deletion_evidence_at:
        return "its model is deleted, and a webhook brings none back"
    return "the mirror knows all that it reports already"


def _consequences(event: Event, row: Mapping[str, Any] | None, foreseen: BatchResult) -> list[str]:
    found = []
    if event.observation and row is None:
        found.append("The mirror does not know its model: it would be added.")
    if row is not None and row["erased_at"] is not None:
        found.append("The personal data of its model was erased: names and addresses in it would be left out.")
    for request in foreseen.requests:
        why = _WHY_GET.get(RefetchReason(request.reason), request.reason)
        found.append(f"A GET of its model would be requested, one request of the vendor's API: {why}.")
    if event.unusable:
        found.append(f"Fields that cannot be read would be set aside: {', '.join(event.unusable)}.")
    return found


def _token(connection: Connection, event_id: str, found: Preview, row: Mapping[str, Any] | None) -> str:
    """A digest with a key; clocks that moved and changed nothing of the preview leave it as it is."""
    visible = {name: history.to_json(value) for name, value in (row or {}).items()}
    said = (found.changed, found.before, found.after, found.reason, found.consequences)
    document = ["preview", event_id, visible, *said]
    secret = console_secret.read_or_create(connection).encode()
    return hmac.new(secret, json.dumps(document, sort_keys=True).encode(), "sha256").hexdigest()
