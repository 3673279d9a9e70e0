"""Whether a mirror that has come to rest is exact: rows, history and events against the vendor's truth."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.storage.models import OBSERVED_COLUMNS
from tests.support.system import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.relay import Relay
    from tests.support.vendor import SandboxClient

Row = dict[str, Any]

LISTED = {
    "uid": "uid", "email": "email", "title": "title", "status": "status", "team_id": "teamId",
    "team_name": "teamName", "is_development": "isDevelopment", "created_at": "createdAt",
    "finished_at": "finishedAt",
}  # fmt: skip
DETAILS = {"photo_count": "photoCount", "favorite_photo_id": "favoritePhotoId"}
INVITATION = {"trigger": "trigger", "invite_expires_at": "inviteExpiresAt", "organization_id": "organization"}

TOLD = """
    select model_id, bool_or(event = 'model.deleted') as death from headshotpro.webhook_events
    where status in ('applied', 'stale') group by 1
"""


def differences(url: str, caller: SandboxClient, relay: Relay) -> list[str]:
    """A description of each difference."""
    return [*_wrong_rows(url, caller), *_wrong_history(url), *_wrong_events(url, caller, relay)]


def _wrong_rows(url: str, caller: SandboxClient) -> Iterator[str]:
    """Every row against the truth."""
    truth = {model["id"]: model for model in caller.control("GET", "/models")}
    listed = caller.control("GET", "/hostile")["deleted"] == "listed"
    told = {row["model_id"]: row["death"] for row in rows(url, TOLD)}
    mirrored = {row["id"]: row for row in rows(url, "select * from headshotpro.models")}
    for model_id in sorted(truth.keys() | mirrored.keys()):
        model, row = truth.get(model_id), mirrored.get(model_id)
        if model is None:
            yield f"{model_id}: in the mirror alone: {row}"
        elif row is None:
            # A model that neither a pull nor an event showed cannot be known.
            if model["status"] != "deleted" or (listed and not model["vanished"]) or model_id in told:
                yield f"{model_id}: missing: {model}"
        else:
            for words in _wrong_fields(model, row, told.get(model_id), listed=listed):
                yield f"{model_id}: {words}\n{_behind(url, model_id)}"


def _wrong_fields(model: Row, row: Row, told: bool | None, *, listed: bool) -> Iterator[str]:
    """Compare a row with its model. `told`: whether an event announced the deletion; None where no event came."""
    columns: dict[str, str] = {}
    lives = model["status"] != "deleted"
    if lives or (listed and not model["vanished"]):
        columns |= LISTED
    if lives:
        columns |= DETAILS
    if told is not None:
        columns |= INVITATION
    expected = {column: _value(column, model[name]) for column, name in columns.items()}
    expected["status"] = model["status"]
    if told is None:
        expected |= dict.fromkeys(INVITATION)
    if told and not lives:
        expected["deleted_at"] = _value("deleted_at", model["deletedAt"])
    if (row["deleted_at"] is None) != lives:
        yield f"deleted_at: mirror {row['deleted_at']}, truth {model['deletedAt']}"
    for column, value in expected.items():
        if row[column] != value:
            yield f"{column}: mirror {row[column]}, truth {value}"


def _wrong_history(url: str) -> Iterator[str]:
    """The changes of a model, one after another, lead to its row, and each begins where the last one ended."""
    folded: dict[str, Row] = {}
    for change in rows(url, "select * from headshotpro.model_changes order by id"):
        state = folded.setdefault(change["model_id"], {})
        for column, (old, new) in change["changed"].items():
            if _value(column, state.get(column)) != _value(column, old):
                yield f"{change['model_id']}: change {change['id']} says {column} was {old}, not {state.get(column)}"
            state[column] = new
    for row in rows(url, "select * from headshotpro.models"):
        state = folded.get(row["id"], {})
        for column in OBSERVED_COLUMNS:
            if row[column] != _value(column, state.get(column)):
                yield f"{row['id']}: history ends with {column} {state.get(column)}, the row says {row[column]}"


NEITHER = "select * from headshotpro.webhook_events where status not in ('applied', 'stale')"
TWICE = """
    select event_id, count(*) from headshotpro.model_changes where event_id is not null group by 1 having count(*) > 1
"""


def _wrong_events(url: str, caller: SandboxClient, relay: Relay) -> Iterator[str]:
    """Each acknowledged event is there once, none that was never sent, and none did anything twice."""
    counted, passed = caller.control("GET", "/deliveries")["acknowledged"], relay.acknowledged.total()
    if counted != passed:
        yield f"the vendor counts {counted} acknowledged deliveries, the relay {passed}"
    kept = {row["id"] for row in rows(url, "select id from headshotpro.webhook_events")}
    yield from (f"event {one}: acknowledged and lost" for one in sorted(relay.acknowledged.keys() - kept))
    yield from (f"event {one}: never sent" for one in sorted(kept - relay.tried))
    yield from (f"event {row['id']}: {row['status']}, {row['error']}" for row in rows(url, NEITHER))
    yield from (f"event {row['event_id']}: changed its model {row['count']} times" for row in rows(url, TWICE))


def _behind(url: str, model_id: str) -> str:
    """The history of a row, for the reader of a failure."""
    lines = [
        f"    {row['recorded_at']:%H:%M:%S.%f} as of {row['observed_at']:%H:%M:%S.%f} {row['source']} "
        f"{row['event_id'] or row['pull_id'] or ''}: {row['changed']}"
        for row in rows(url, "select * from headshotpro.model_changes where model_id = %s order by id", model_id)
    ]
    for table in ("model_clocks", "refetch_requests", "webhook_events"):
        found = rows(url, f"select * from headshotpro.{table} where model_id = %s", model_id)
        lines += [f"    {table}: {row}" for row in found]
    return "\n".join(lines)


def _value(column: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if column.endswith("_at") and isinstance(value, str) else value
