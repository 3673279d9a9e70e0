"""Observations out of what the vendor sends: the fields that each source contains, and as of when. Pure."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from service.mirror.merge import Observation
from service.model_fields import DELETED, Source, columns_of
from service.upstream.fields import to_storable
from service.upstream.payloads import created_at_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from service.upstream.payloads import CreatedModel, DetailedModel, ListedModel, WebhookBody, WebhookModel

MODEL_DELETED = "model.deleted"
# Those that the vendor documents; any other is accepted and kept, too.
EVENTS = ("model.created", "model.status.updated", "model.photos_ready", "model.favorite_selected", MODEL_DELETED)
_LISTED, _SINGLE, _IN_WEBHOOK = map(columns_of, (Source.LIST, Source.SINGLE, Source.WEBHOOK))

# The signature's time is cut to whole seconds.
SIGNATURE_RESOLUTION = timedelta(seconds=1)

# Only a single GET can read what these announce.
REFETCH_EVENTS = frozenset({"model.favorite_selected", "model.photos_ready"})


def event_time(webhook: WebhookBody, signed_at: datetime, tolerance: timedelta) -> datetime | None:
    """When an event happened; one that claims to lie further ahead than the tolerance counts as signed then."""
    if webhook.created_at is None or webhook.created_at <= signed_at + tolerance:
        return webhook.created_at
    return signed_at


def from_webhook(
    webhook: WebhookBody,
    model: WebhookModel,
    signed_at: datetime,
    tolerance: timedelta,
    event_id: str | None = None,
) -> Observation:
    """The observation of a webhook: core and invitation. Its own time may lie ahead of `signed_at` by `tolerance`."""
    fields = _present_fields(model, _IN_WEBHOOK)
    happened = event_time(webhook, signed_at, tolerance)
    latest = happened or signed_at + SIGNATURE_RESOLUTION
    is_deletion = webhook.event == MODEL_DELETED or fields.get("status") == DELETED
    if is_deletion:
        fields["status"] = DELETED
    return Observation(
        model_id=model.object_id,
        at=happened or _earliest_possible(model.object_id, fields, model.deleted_at, latest),
        until=latest,
        fields=fields,
        # A death without a time of its own is as young as its signature: a model dies once, so nothing older lifts it.
        deletion_evidence_at=latest if is_deletion else None,
        deleted_at=(model.deleted_at or None) if is_deletion else None,
        needs_refetch=webhook.event in REFETCH_EVENTS,
        event_id=event_id,
    )


def from_list(model: ListedModel, sent_at: datetime, received_at: datetime) -> Observation:
    """The observation of a record on a list page: core and profile."""
    return _from_api(model.id, model, _LISTED, sent_at, received_at, alive=False)


def from_single(model_id: str, model: DetailedModel, sent_at: datetime, received_at: datetime) -> Observation:
    """The observation of a single GET: core, profile and detail, and that the model is alive."""
    alive = isinstance(model.status, str) and model.status != DELETED
    return _from_api(model_id, model, _SINGLE, sent_at, received_at, alive=alive)


def from_created(
    made: CreatedModel,
    email: str,
    team_id: str | None,
    *,
    is_development: bool,
    sent_at: datetime,
    received_at: datetime,
) -> Observation:
    """The observation of our own create: the status in its response, and the request's fields. A GET reads the rest.

    A field of the request that no index takes is left out, as it is when the upstream sends it.
    """
    present: dict[str, Any] = {"is_development": is_development}
    for name, value in {"email": email, "team_id": team_id}.items():
        with suppress(ValueError):
            present[name] = to_storable(name, value)
    return Observation(
        model_id=made.model_id,
        at=sent_at,
        until=received_at,
        fields={"status": made.status, **present} if isinstance(made.status, str) else present,
        needs_refetch=True,
    )


def from_absence(model_id: str, at: datetime) -> Observation:
    """A deletion without a webhook: a 404 that counts (see `deletions`), or our own delete after its response."""
    return Observation(model_id=model_id, at=at, until=at, fields={}, deletion_evidence_at=at)


def _from_api(
    model_id: str, model: ListedModel, names: Iterable[str], sent_at: datetime, received_at: datetime, *, alive: bool
) -> Observation:
    return Observation(
        model_id=model_id,
        at=sent_at,
        until=received_at,
        fields=_present_fields(model, names),
        deletion_evidence_at=sent_at if model.status == DELETED else None,
        alive=alive,
        shows_model=True,
    )


def _present_fields(payload: Any, names: Iterable[str]) -> dict[str, Any]:
    """The fields that a payload holds; an absent one is no information, nor is a status that is null or empty."""
    fields = {name: value for name in names if (value := getattr(payload, name, UNSET)) is not UNSET}
    if fields.get("status", UNSET) in (None, ""):
        del fields["status"]
    return fields


def _earliest_possible(model_id: str, fields: dict[str, Any], deleted_at: Any, latest: datetime) -> datetime:
    """The oldest time an event without one can have: it is younger than every time that it mentions."""
    mentioned = [created_at_of(model_id), fields.get("created_at"), fields.get("finished_at"), deleted_at]
    times = [time for time in mentioned if time and time <= latest]
    return max(times, default=latest - timedelta(days=1))
