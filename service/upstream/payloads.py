"""The vendor's data as types: responses of its API and the two steps of reading a webhook.

Unknown fields are accepted. An absent field is `msgspec.UNSET`: no information; null is `None`: a value. Times come out
aware and in UTC. Shapes are those of the vendor's models page and of its organization and webhook pages.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.errors import ApiError, UpstreamMalformed
from service.model_fields import Source
from service.upstream.fields import ModelId, NonEmptyText, Payload, Text, Time, utc, with_model_fields
from service.upstream.json_text import REPLACEMENT, decode, loads
from service.upstream.tolerant import PartialRecord, read_fields

_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")


@with_model_fields(Source.LIST)
class ListedModel(Payload, frozen=True, kw_only=True):
    """A model as the list shows it."""

    id: ModelId
    email: Text = UNSET
    status: Text = UNSET
    created_at: Time = UNSET


@with_model_fields(Source.SINGLE)
class DetailedModel(ListedModel, frozen=True, kw_only=True):
    """A model as its own GET shows it; `signed_url` is a login link, a secret."""

    signed_url: Text = UNSET


class ModelResponse(Payload, frozen=True, kw_only=True):
    """The response about one model."""

    model: DetailedModel


class Pagination(Payload, frozen=True, kw_only=True):
    """The place of a page in the list; `total` counts what the filter lets through."""

    total: int
    limit: int
    offset: int
    has_more: bool


class ModelPage(Payload, frozen=True, kw_only=True):
    """One page of the list."""

    models: tuple[ListedModel, ...]
    pagination: Pagination


class CreatedModel(Payload, frozen=True, kw_only=True):
    """The response to a create; `signed_url` is a login link, a secret."""

    model_id: ModelId
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


class OrganizationResponse(Payload, frozen=True, kw_only=True):
    """The response about the organization: two of the vendor's pages name its field differently."""

    organization: Organization | UnsetType = UNSET
    data: Organization | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.organization is UNSET and self.data is UNSET:
            raise ValueError("Object missing required field `organization`")

    @property
    def found(self) -> Organization:
        """The organization, under whichever name it came."""
        found = self.data if isinstance(self.organization, UnsetType) else self.organization
        if isinstance(found, UnsetType):
            raise TypeError("refused when it was made")
        return found


@with_model_fields(Source.WEBHOOK)
class WebhookModel(Payload, frozen=True, kw_only=True):
    """The `object` of a webhook about a model; it never has an e-mail address, a team, a photo count or a favourite.

    `service.model_fields` lists its other fields.
    """

    deleted_at: Time = UNSET


class Envelope(NamedTuple):
    """The part of a webhook body that the endpoint needs.

    Attributes:
        event: the vendor's name of what happened, known to us or not.
        event_id: the body's `id`; None where it has none that can be stored (1 to 255 characters).
        created_at: when the vendor says it happened, UTC.
        object_type: as sent; None where it is absent or no text.
        model_id: the model that it is about; None where it is about something else.
        concerns_model: whether it is about a model: `objectType` is `model`, null or absent.
    """

    event: str
    event_id: str | None
    created_at: datetime | None
    object_type: str | None
    model_id: str | None
    concerns_model: bool


class _Identified(msgspec.Struct):
    id: NonEmptyText = msgspec.field(name="_id")


class _ModelEvent(msgspec.Struct, rename="camel"):
    """A well-formed event about a model: nearly every body, so it is tried first."""

    event: str
    object: _Identified
    id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    created_at: datetime | None = None
    object_type: Literal["model"] | None = None


class _AnyEvent(msgspec.Struct, rename="camel"):
    """Any body that is a webhook at all."""

    event: str
    id: Any = None
    created_at: datetime | None = None
    object_type: Any = None
    object: Any = None


class _ModelBody(msgspec.Struct):
    object: WebhookModel


_MODEL_EVENT = msgspec.json.Decoder(_ModelEvent)
_MODEL_BODY = msgspec.json.Decoder(_ModelBody)


def decode_envelope(body: bytes) -> Envelope:
    """Read of a webhook body what the endpoint must know, and refuse what is none.

    Raises:
        ApiError: 400, for a body that is no webhook body by `docs/api.md`; nothing else is refused.
    """
    try:
        # msgspec does not check the bytes of fields that it skips.
        body.decode()
        try:
            return _envelope(decode(_MODEL_EVENT, body))
        except msgspec.ValidationError:
            # In a field of any type, msgspec refuses a number past every range; Python does not.
            return _envelope(msgspec.convert(loads(body), _AnyEvent))
    except ValueError as error:
        raise _delivery_rejected(f"not a webhook body: {error}") from None


def decode_webhook_model(body: bytes) -> PartialRecord[WebhookModel]:
    """Read the model out of a webhook body that the webhook endpoint let in; a field that cannot be used is absent.

    Raises:
        UpstreamMalformed: there is no object in it; the message holds no value.
    """
    try:
        try:
            return PartialRecord(decode(_MODEL_BODY, body).object, ())
        except msgspec.ValidationError:
            document = loads(body)
            return read_fields(document.get("object") if isinstance(document, dict) else None, WebhookModel)
    except ValueError as error:
        raise UpstreamMalformed(f"webhook body: {error}") from None


def event_id_of(envelope: Envelope | None, signed_at: int, body: bytes) -> str:
    """The vendor's id of an event; without one, `sha256:` and the digest of what was signed.

    Args:
        envelope: what was read of the body; None where it is no webhook body.
        signed_at: the signed timestamp, Unix seconds.
        body: the raw body.
    """
    if envelope and envelope.event_id:
        return envelope.event_id
    return "sha256:" + hashlib.sha256(b"%d." % signed_at + body).hexdigest()


def created_at_of(model_id: str) -> datetime | None:
    """The creation time in an ObjectId (its first 8 hex digits are Unix seconds); None where the id is none."""
    if not _OBJECT_ID.fullmatch(model_id):
        return None
    return datetime.fromtimestamp(int(model_id[:8], 16), UTC)


def _envelope(event: _ModelEvent | _AnyEvent) -> Envelope:
    concerns_model = event.object_type is None or event.object_type == "model"
    if not concerns_model and not isinstance(event.object_type, str):
        # Of the wrong type it is absent; what then names no model concerns none.
        with suppress(ApiError):
            concerns_model = bool(_model_id(event.object))
    return Envelope(
        event=event.event,
        event_id=_event_id(event.id),
        created_at=event.created_at and utc(event.created_at),
        object_type=event.object_type if isinstance(event.object_type, str) else None,
        model_id=_model_id(event.object) if concerns_model else None,
        concerns_model=concerns_model,
    )


def _event_id(value: Any) -> str | None:
    storable = isinstance(value, str) and 1 <= len(value) <= 255 and REPLACEMENT not in value
    return value if storable else None


def _model_id(value: Any) -> str:
    model_id = value.id if isinstance(value, _Identified) else value.get("_id") if isinstance(value, dict) else None
    if not isinstance(model_id, str) or not model_id:
        raise _delivery_rejected("not a webhook body: `object._id` names no model")
    return model_id


def _delivery_rejected(reason: str) -> ApiError:
    return ApiError(400, "INVALID_REQUEST", reason, label="malformed")
