"""The body of an outgoing webhook, by Standard Webhooks: `type`, `timestamp`, `data`. Pure.

The same changes give the same bytes at any time, but for what was erased since.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from service.model_fields import DELETED, personal_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CREATED_TYPE, CHANGED_TYPE, DELETED_TYPE = "model.created", "model.changed", "model.deleted"
BATCH_TYPE, TEST_TYPE = "model.batch", "subscription.test"
_PERSONAL = frozenset(personal_columns())
_CHANGE_FIELDS = ("id", "model_id", "from_status", "to_status", "changed", "source", "observed_at")


def admits(subscription: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether a subscription is sent a change, with its row, by its statuses and teams; without any, all are."""
    statuses, teams = subscription["statuses"], subscription["teams"]
    return (not statuses or change["to_status"] in statuses) and (not teams or change["row"]["team_id"] in teams)


def message_id(subscription_id: int, replays: int, first_change: int) -> str:
    """The `webhook-id`: the same on every retry, another after a replay that a person asked for."""
    return f"msg_{subscription_id}_{replays}_{first_change}"


def body(changes: Sequence[Mapping[str, Any]], *, batch: bool, personal: bool) -> bytes:
    """The JSON of a request.

    Args:
        changes: with their rows, in the order of their ids.
        batch: they are sent as a list, also where it is one.
        personal: personal fields are part of it.
    """
    data = [_data(change, personal=personal) for change in changes]
    newest = _iso(changes[-1]["recorded_at"])
    if batch:
        document = {"type": BATCH_TYPE, "timestamp": newest, "data": {"changes": data}}
    else:
        (change,) = changes
        document = {"type": change_type(change), "timestamp": newest, "data": data[0]}
    return msgspec.json.encode(document)


def change_type(change: Mapping[str, Any]) -> str:
    """The type of a change: whether a model came, changed, or was deleted."""
    if change["to_status"] == DELETED:
        return DELETED_TYPE
    return CREATED_TYPE if change["from_status"] is None and change["to_status"] is not None else CHANGED_TYPE


def trial_body(now: datetime) -> bytes:
    """The JSON of a request that only tests a receiver."""
    return msgspec.json.encode({"type": TEST_TYPE, "timestamp": _iso(now), "data": {}})


def _data(change: Mapping[str, Any], *, personal: bool) -> dict[str, Any]:
    hidden = frozenset() if personal else _PERSONAL
    data = {name: _iso(change[name]) for name in _CHANGE_FIELDS}
    data["changed"] = {name: pair for name, pair in sorted(change["changed"].items()) if name not in hidden}
    data["row"] = {name: _iso(value) for name, value in change["row"].items() if name not in hidden}
    return data


def _iso(value: Any) -> Any:
    """A time in ISO 8601 in UTC, as `changed` has it; anything else as it is."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
