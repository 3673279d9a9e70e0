"""The vendor's data as types: responses of its API, and the bodies of its webhooks.

Unknown fields are accepted. An absent field is `msgspec.UNSET`: no information; null is `None`: a value. Times come out
aware and in UTC. Shapes are those of the vendor's models page and of its organization and webhook pages.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.errors import ApiError
from service.model_fields import Source
from service.upstream.fields import (
    NonEmptyText,
    PartialRecord,
    Payload,
    ShortId,
    Text,
    Time,
    read_fields,
    utc,
    with_model_fields,
)
from service.upstream.json_text import REPLACEMENT, decode, loads, refuse_too_deep

_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


@with_model_fields(Source.LIST)
class ListedModel(Payload, frozen=True, kw_only=True):
    """A model as the list shows it."""

    id: ShortId
    email: Text = UNSET
    status: Text = UNSET
    created_at: Time = UNSET
    finished_at: Time = UNSET


@with_model_fields(Source.SINGLE)
class DetailedModel(ListedModel, frozen=True, kw_only=True):
    """A model as its own GET shows it; `signed_url` is a login link, a secret."""

    signed_url: Text = UNSET


class Pagination(Payload, frozen=True, kw_only=True):
    """The place of a page in the list; `total` counts what the filter lets through."""

    total: int
    limit: int
    offset: int
    has_more: bool


class ModelPage(Payload, frozen=True, kw_only=True):
    """One page of the list; `success` is what it says of itself, of any type."""

    models: tuple[ListedModel, ...]
    pagination: Pagination
    success: Any = UNSET


class CreatedModel(Payload, frozen=True, kw_only=True):
    """The response to a create; `signed_url` is a login link, a secret."""

    model_id: NonEmptyText
    status: Text = UNSET
    signed_url: Text = UNSET


class DeletedModel(Payload, frozen=True, kw_only=True):
    """The response to a delete."""

    model_id: Text = UNSET
    message: Text = UNSET


class Team(Payload, frozen=True, kw_only=True):
    """A team of the organization."""

    id: NonEmptyText
    name: Text = UNSET


class Organization(Payload, frozen=True, kw_only=True):
    """The organization that the API key belongs to."""

    uid: NonEmptyText
    name: Text = UNSET
    website: Text = UNSET
    teams: tuple[Team, ...] | UnsetType | None = UNSET


@with_model_fields(Source.WEBHOOK)
class WebhookModel(Payload, frozen=True, kw_only=True):
    """The `object` of a webhook about a model; it never has an e-mail address, a team, a photo count or a favourite.

    `service.model_fields` lists its other fields. `object_id` is any text but an empty one: an event with an id that no
    model can have is accepted, and ends as dead.
    """

    object_id: NonEmptyText = msgspec.field(name="_id")
    deleted_at: Time = UNSET


class WebhookBody(Payload, frozen=True, kw_only=True):
    """The body of a webhook.

    Attributes:
        event: the vendor's name of what happened, known to us or not.
        event_id: the body's `id`; None where it has none that can be stored (1 to 255 characters).
        created_at: when the vendor says it happened, UTC.
        model: the model that it is about (`objectType` is `model`, null or absent); None: it is about something else.
    """

    event: str
    event_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = msgspec.field(default=None, name="id")
    created_at: datetime | None = None
    model: WebhookModel | None = msgspec.field(default=None, name="object")


class _ModelBody(WebhookBody, frozen=True, kw_only=True):
    """One about a model, with all fields as documented: nearly every body, so it is tried first.

    Its texts are short; that its times are in UTC and the event's id is whole is checked by `_is_plain`.
    """

    object_type: Literal["model"] | None = None
    model: WebhookModel = msgspec.field(name="object")


class _AnyBody(msgspec.Struct, rename="camel"):
    """Any body that is a webhook at all."""

    event: str
    id: Any = None
    created_at: datetime | None = None
    object_type: Any = None
    object: Any = None


_MODEL_BODY = msgspec.json.Decoder(_ModelBody)
_times_of = attrgetter(
    "created_at", *(f"model.{field.name}" for field in msgspec.structs.fields(WebhookModel) if field.type == Time)
)


def decode_webhook(body: bytes) -> PartialRecord[WebhookBody]:
    """Decode a webhook body; a field of its model that cannot be used is absent.

    Raises:
        ApiError: 400, for a body that is no JSON object with an event and, where it is about a model, the model's id
            and a time that can be read; and for one that is nested deeper than `json_text.MAX_DEPTH`.
    """
    try:
        # msgspec does not check the bytes of fields that it skips.
        body.decode()
        refuse_too_deep(body)
        try:
            webhook = decode(_MODEL_BODY, body)
        except msgspec.ValidationError:
            webhook = None
        if webhook and _is_plain(webhook):
            return PartialRecord(webhook, ())
        # In a field of any type, msgspec refuses a number past every range; Python does not.
        return _read_any(msgspec.convert(loads(body), _AnyBody))
    except ValueError as error:
        raise ApiError(400, "INVALID_REQUEST", f"not a webhook body: {error}", label="malformed") from None


def event_id_of(webhook: WebhookBody | None, signed_at: int, body: bytes) -> str:
    """The vendor's id of an event; without one, `sha256:` and the digest of what was signed.

    `webhook` is None where the raw `body` is no webhook body; `signed_at` is the signed timestamp, Unix seconds.
    """
    if webhook and webhook.event_id:
        return webhook.event_id
    return "sha256:" + hashlib.sha256(b"%d." % signed_at + body).hexdigest()


def created_at_of(model_id: str) -> datetime | None:
    """The creation time in an ObjectId (its first 8 hex digits are Unix seconds); None where the id is none."""
    if not _OBJECT_ID.fullmatch(model_id):
        return None
    return datetime.fromtimestamp(int(model_id[:8], 16), UTC)


def _is_plain(webhook: _ModelBody) -> bool:
    """Whether each of its values is stored as it is."""
    for time in _times_of(webhook):
        if time and time.tzinfo is not UTC:
            return False
    return not webhook.event_id or REPLACEMENT not in webhook.event_id


def _read_any(body: _AnyBody) -> PartialRecord[WebhookBody]:
    """A body in which something is not as documented.

    Raises:
        ValueError: it is about a model and does not name it, or its time is out of range; the message holds no value.
    """
    model: WebhookModel | None = None
    unusable: tuple[str, ...] = ()
    if body.object_type == "model" or not isinstance(body.object_type, str):
        try:
            model, unusable = read_fields(body.object, WebhookModel)
        except ValueError:
            # An object type of the wrong type is absent; what then names no model is about something else.
            if body.object_type is None or body.object_type == "model":
                raise
    is_id = isinstance(body.id, str) and 1 <= len(body.id) <= 255 and REPLACEMENT not in body.id
    created_at = body.created_at and utc(body.created_at)
    webhook = WebhookBody(event=body.event, event_id=body.id if is_id else None, created_at=created_at, model=model)
    return PartialRecord(webhook, unusable)
