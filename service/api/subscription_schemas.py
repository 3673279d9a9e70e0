"""The types of the API's calls about subscriptions, and of the requests that subscriptions are sent.

The API's names are in camel case, as all of its names; a request to a subscription has the names of the tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from service.api.schemas import ApiSchema, SuccessBody, vendor_time

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=ApiSchema)


class ReplayBody(ApiSchema, frozen=True, kw_only=True):
    """The body of a replay."""

    since: Annotated[str, Meta(description="The id of the first change, or a time; else all that are kept.")] | None = (
        None
    )


class SubscriptionSchema(ApiSchema, frozen=True, kw_only=True):
    """A subscription, without its secret."""

    name: str
    url: str
    state: str
    reason: str | None
    statuses: list[str] | None
    teams: list[str] | None
    with_personal_data: bool
    batch: int | None
    cursor: Annotated[int, Meta(description="The lowest change that it has not acknowledged.")]
    waiting: Annotated[int, Meta(description="Changes that were read for it and not acknowledged.")]
    unread: Annotated[int, Meta(description="How far its reading is behind the feed, in ids.")]
    delivered: Annotated[int, Meta(description="Changes that it acknowledged.")]
    delivered_at: str | None
    failed_at: str | None
    failed_status: int | None
    failed_reason: str | None
    created_at: str


class SubscriptionListBody(SuccessBody, frozen=True, kw_only=True):
    """All subscriptions."""

    subscriptions: list[SubscriptionSchema]


class SingleSubscriptionBody(SuccessBody, frozen=True, kw_only=True):
    """One subscription."""

    subscription: SubscriptionSchema


class WaitingChangeSchema(ApiSchema, frozen=True, kw_only=True):
    """A change that a subscription has not acknowledged."""

    change_id: int
    model_id: str
    attempts: Annotated[int, Meta(description="How many requests that carried it have failed.")]
    first_failed_at: str | None
    due_at: Annotated[str | None, Meta(description="When it may be sent again; null: as soon as its turn comes.")]
    status: Annotated[int | None, Meta(description="HTTP status of the last of them; null where there was none.")]
    error: str | None


class RecentRequestSchema(ApiSchema, frozen=True, kw_only=True):
    """One of the newest requests to a subscription."""

    at: str
    change_id: Annotated[int, Meta(description="The first change that it carried.")]
    changes: Annotated[int, Meta(description="How many it carried.")]
    attempt: int
    status: Annotated[int | None, Meta(description="HTTP status; null where there was no response.")]
    ms: Annotated[float, Meta(description="How long it took, in milliseconds.")]
    error: str | None


class SubscriptionDetailBody(SingleSubscriptionBody, frozen=True, kw_only=True):
    """One subscription, the first changes that it has not acknowledged, and its newest requests."""

    deliveries: list[WaitingChangeSchema]
    recent_requests: list[RecentRequestSchema]


class SubscriptionSecretBody(SuccessBody, frozen=True, kw_only=True):
    """One subscription, and its new secret, which is shown this once."""

    subscription: SubscriptionSchema
    secret: str


class SubscriptionTestBody(SuccessBody, frozen=True, kw_only=True):
    """The result of a test request."""

    taken: Annotated[bool, Meta(description="The receiver responded 2xx.")]
    status: Annotated[int | None, Meta(description="Its status; null where it did not respond.")]
    error: str | None


class SubscriptionRemovedBody(SuccessBody, frozen=True, kw_only=True):
    """A subscription was removed."""

    message: str


class OutgoingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change, and the row of its model as the change left it."""

    id: int
    model_id: str
    from_status: str | None
    to_status: str | None
    changed: Annotated[dict[str, list[Any]], Meta(description="Each changed column, to [old, new].")]
    source: Literal["webhook", "pull", "refetch", "api", "erase"]
    observed_at: str
    row: Annotated[dict[str, Any], Meta(description="The columns of `models`; personal ones only where wanted.")]


class OutgoingBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of one request, in the order of the feed."""

    changes: list[OutgoingChange]


class OutgoingWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an outgoing webhook, by Standard Webhooks."""

    type: Literal["model.created", "model.changed", "model.deleted"]
    timestamp: str
    data: OutgoingChange


class OutgoingBatchWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an outgoing webhook of a subscription with batches."""

    type: Literal["model.batch"]
    timestamp: str
    data: OutgoingBatch


def from_row(shape: type[S], row: Mapping[str, Any]) -> S:
    """The form of a row of `storage.subscriptions` in the API, its times as the vendor writes them."""
    values = {name: row[name] for name in shape.__struct_fields__}
    return shape(
        **{name: vendor_time(value) if isinstance(value, datetime) else value for name, value in values.items()}
    )
