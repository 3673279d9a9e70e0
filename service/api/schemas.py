"""The types of our API's requests and responses; the bodies and the OpenAPI document are made from them.

The vendor's names and shapes (its models page), and a few parameters more. A field that the mirror does not hold is
`UNSET` and so left out: `signedUrl` always, a profile or details that were never read. Null is a value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.model_fields import CORE, DETAIL, PROFILE, Field, Kind, Source, fields_of
from service.struct_fields import with_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PAGE_SIZE = 200
# Nine digits, as the vendor's own numbers; no list is longer.
MAX_INTEGER = 999_999_999
MAX_CHANGE_ID = 2**63 - 1

TimestampText: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Timestamp: TypeAlias = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
NonNegativeInteger: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
ChangeId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_CHANGE_ID)]


class ApiSchema(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every body and every set of parameters."""


class SuccessBody(ApiSchema, frozen=True, kw_only=True):
    """Base of every body of a response that is no error."""

    success: Literal[True] = True


class ListQuery(ApiSchema, frozen=True, kw_only=True):
    """The parameters of the list: the vendor's four, then ours."""

    limit: Annotated[
        int,
        Meta(
            ge=1, le=MAX_INTEGER, description=f"Results per page; more than {MAX_PAGE_SIZE} counts as {MAX_PAGE_SIZE}."
        ),
    ] = 50
    offset: Annotated[NonNegativeInteger, Meta(description="Number of results to skip.")] = 0
    status: Annotated[str, Meta(description="Only this status; `deleted` shows tombstones.")] | UnsetType = UNSET
    team_id: Annotated[str, Meta(description="Only this team.")] | UnsetType = UNSET
    email: Annotated[str, Meta(description="Only this address.")] | UnsetType = UNSET
    is_development: Annotated[bool, Meta(description="Only models of the test mode, or only others.")] | UnsetType = (
        UNSET
    )
    created_after: Annotated[Timestamp, Meta(description="Created at this time or later.")] | UnsetType = UNSET
    created_before: Annotated[Timestamp, Meta(description="Created before this time.")] | UnsetType = UNSET
    include_deleted: Annotated[bool, Meta(description="Show tombstones too.")] = False
    updated_since: (
        Annotated[
            ChangeId | Timestamp,
            Meta(
                description="The feed: models that changed since a change's id (the `cursor` of an earlier response; "
                "0 is the beginning) or since a time, in the order of their changes, deletions always included. "
                "`limit` and `offset` count changes; going on with `cursor` is the better way."
            ),
        ]
        | UnsetType
    ) = UNSET


class SingleQuery(ApiSchema, frozen=True, kw_only=True):
    """The parameters of the single GET; the vendor has none."""

    fresh: Annotated[
        bool,
        Meta(
            description="Read the model from the upstream and merge it; this needs a key that may write. "
            "A second request within five seconds is answered from the mirror.",
        ),
    ] = False


class CreateModelBody(ApiSchema, frozen=True, kw_only=True):
    """The body of a create."""

    email: Annotated[str, Meta(description="The person's e-mail address.", extra_json_schema={"format": "email"})]
    team_id: Annotated[str, Meta(description="Team to assign the person to.")] | None = None
    is_development: Annotated[bool, Meta(description="The vendor's test mode: fast, and no credit is spent.")] = False


_TYPES: dict[Kind, Any] = {
    Kind.TEXT: str,
    Kind.ID: str,
    Kind.WORD: str,
    Kind.FLAG: bool,
    Kind.COUNT: int,
    Kind.TIME: TimestampText,
}


def _schema_field(field: Field) -> tuple[str, Any, Any]:
    """A field of a schema; what only some sources send may not have been read yet, and then it is left out."""
    kind = _TYPES[field.kind] | None
    if field.group == CORE:
        return field.column, kind, msgspec.field(name=field.json_name)
    return field.column, kind | UnsetType, msgspec.field(name=field.json_name, default=UNSET)


@with_fields([_schema_field(field) for field in fields_of(Source.LIST)])
class ModelSchema(ApiSchema, frozen=True, kw_only=True):
    """A model as the list shows it."""

    id: str


@with_fields([_schema_field(field) for field in fields_of(Source.SINGLE)])
class DetailedModelSchema(ApiSchema, frozen=True, kw_only=True):
    """A model as its own GET shows it; with `signedUrl` only where the upstream was read."""

    id: str
    signed_url: str | UnsetType = UNSET


class PaginationSchema(ApiSchema, frozen=True, kw_only=True):
    """The place of a page in the list."""

    total: int
    limit: int
    offset: int
    has_more: bool


class FeedPaginationSchema(ApiSchema, frozen=True, kw_only=True):
    """The place of a page in the feed."""

    limit: int
    offset: int
    has_more: bool
    cursor: Annotated[ChangeId, Meta(description="The `updatedSince` of the next call.")]


class ModelListBody(SuccessBody, frozen=True, kw_only=True):
    """A page of the list."""

    models: list[ModelSchema]
    pagination: PaginationSchema


class ModelFeedBody(SuccessBody, frozen=True, kw_only=True):
    """A page of the feed: what `updatedSince` asks for."""

    models: list[ModelSchema]
    pagination: FeedPaginationSchema


class SingleModelBody(SuccessBody, frozen=True, kw_only=True):
    """The response about one model."""

    model: DetailedModelSchema


class CreatedBody(SuccessBody, frozen=True, kw_only=True):
    """The response to a create; `signedUrl` logs its holder in."""

    model_id: str
    status: str | UnsetType | None = UNSET
    signed_url: str | UnsetType | None = UNSET


class DeletedBody(SuccessBody, frozen=True, kw_only=True):
    """The response to a delete."""

    message: str
    model_id: str


class TeamSchema(ApiSchema, frozen=True, kw_only=True):
    """A team of the organization."""

    name: str | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET


class OrganizationSchema(ApiSchema, frozen=True, kw_only=True):
    """The organization of the mirror's key."""

    uid: str
    name: str | UnsetType | None = UNSET
    website: str | UnsetType | None = UNSET
    teams: list[TeamSchema] | UnsetType | None = UNSET


class OrganizationBody(SuccessBody, frozen=True, kw_only=True):
    """The response about the organization: the upstream's own, no older than a minute."""

    organization: OrganizationSchema


class ErrorBody(ApiSchema, frozen=True, kw_only=True):
    """Every error, the vendor's and ours."""

    success: Literal[False] = False
    error: str
    code: str


def _shown(source: Source) -> tuple[tuple[str, str, bool], ...]:
    """Column, group and whether it is a time, of each field that the upstream's call shows."""
    return tuple((field.column, field.group.name, field.kind is Kind.TIME) for field in fields_of(source))


_LISTED, _SINGLE = _shown(Source.LIST), _shown(Source.SINGLE)


def model_schema(row: Mapping[str, Any]) -> ModelSchema:
    """A row as the list shows it."""
    return ModelSchema(id=row["id"], **_values(row, _LISTED))


def detailed_model_schema(row: Mapping[str, Any]) -> DetailedModelSchema:
    """A row as the single GET shows it, as far as the mirror knows it."""
    return DetailedModelSchema(id=row["id"], **_values(row, _SINGLE))


def _values(row: Mapping[str, Any], shown: tuple[tuple[str, str, bool], ...]) -> dict[str, Any]:
    unread: set[str] = set()
    if not row["has_profile"]:
        unread.add(PROFILE.name)
    # A null photo count was not read yet, and then the other details were not either.
    if row["photo_count"] is None:
        unread.add(DETAIL.name)
    return {
        column: UNSET if group in unread else vendor_time(row[column]) if is_time else row[column]
        for column, group, is_time in shown
    }


def vendor_time(moment: datetime | None) -> str | None:
    """A time as the vendor writes it: `2024-01-15T10:30:00.000Z`."""
    return (
        None if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    )
