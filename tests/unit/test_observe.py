"""Observations: which fields each source contains, as of when, and its evidence of life and death."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from service.mirror.merge import CORE, DELETED, DETAIL, INVITATION, PROFILE
from service.mirror.observe import event_time, from_absence, from_created, from_list, from_single, from_webhook
from service.upstream.payloads import CreatedModel, DetailedModel, ListedModel, decode_webhook

if TYPE_CHECKING:
    from service.mirror.merge import Observation

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
TOLERANCE = timedelta(seconds=300)
# An ObjectId of 11:00.
MODEL_ID = f"{int(NOON.timestamp()) - 3600:08x}00000000000000a1"

WEBHOOK_OBJECT = {
    "_id": MODEL_ID,
    "uid": "anon_1",
    "title": "Ann",
    "trigger": "female",
    "status": "pending",
    "isDevelopment": False,
    "finishedAt": None,
    "deletedAt": None,
    "inviteExpiresAt": None,
    "createdAt": "2024-01-15T11:00:00.500Z",
    "organization": "org1",
    # None of these is in a webhook; where one were, it would not be believed.
    "email": "ann@example.com",
    "teamId": "t1",
    "photoCount": 40,
}
API_MODEL = {
    "id": MODEL_ID,
    "uid": "anon_1",
    "email": "ann@example.com",
    "title": "Ann",
    "status": "pending",
    "teamId": "t1",
    "teamName": "Marketing",
    "isDevelopment": False,
    "createdAt": "2024-01-15T11:00:00.500Z",
    "finishedAt": None,
    "photoCount": 40,
    "favoritePhotoId": None,
    "trigger": "male",
    "signedUrl": "https://example.com/login",
}


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def webhook(
    event: str = "model.status.updated", created_at: datetime | None = NOON, signed_at: datetime = NOON, **changes: Any
) -> Observation:
    """The observation of a webhook; a changed field whose value is `...` is left out of its object."""
    whole = {name: value for name, value in (WEBHOOK_OBJECT | changes).items() if value is not ...}
    body: dict[str, Any] = {"event": event, "objectType": "model", "object": whole}
    if created_at:
        body |= {"id": "evt_1", "createdAt": created_at.isoformat()}
    raw = json.dumps(body).encode()
    read = decode_webhook(raw).value
    assert read.model
    return from_webhook(read, read.model, signed_at, TOLERANCE)


def listed(**changes: Any) -> Observation:
    return from_list(msgspec.convert(API_MODEL | changes, ListedModel), after(0), after(3))


def single(**changes: Any) -> Observation:
    return from_single(MODEL_ID, msgspec.convert(API_MODEL | changes, DetailedModel), after(0), after(3))


# --- each source contains its own groups


def test_a_webhook_tells_core_and_invitation() -> None:
    seen = webhook()
    assert set(seen.fields) == {*CORE, *INVITATION}
    assert (seen.fields["status"], seen.fields["trigger"], seen.fields["organization_id"]) == (
        "pending",
        "female",
        "org1",
    )
    assert (seen.at, seen.until, seen.deletion_evidence_at, seen.alive, seen.needs_refetch) == (
        NOON,
        NOON,
        None,
        False,
        False,
    )


def test_a_row_of_the_list_tells_core_and_profile() -> None:
    seen = listed()
    assert set(seen.fields) == {*CORE, *PROFILE}
    assert (seen.at, seen.until, seen.deletion_evidence_at, seen.alive, seen.needs_refetch) == (
        after(0),
        after(3),
        None,
        False,
        False,
    )


def test_single_get_reports_core_profile_detail_and_alive() -> None:
    seen = single()
    assert set(seen.fields) == {*CORE, *PROFILE, *DETAIL}
    assert (seen.at, seen.until, seen.deletion_evidence_at, seen.alive) == (after(0), after(3), None, True)


def test_no_source_hands_on_a_login_link() -> None:
    for seen in (webhook(signedUrl="https://example.com/login"), listed(), single()):
        assert "https://example.com/login" not in seen.fields.values()


def test_an_absent_field_is_not_told_and_null_is() -> None:
    seen = webhook(title=..., organization=..., finishedAt=None)
    assert "title" not in seen.fields
    assert "organization_id" not in seen.fields
    assert seen.fields["finished_at"] is None


# --- times of events


@pytest.mark.parametrize("ahead", [-3600.0, -1.0, 0.0, 0.999, 300.0])
def test_an_event_happened_when_it_says(ahead: float) -> None:
    seen = webhook(created_at=after(ahead))
    assert seen.at == seen.until == after(ahead)


def test_event_too_far_in_the_future_gets_its_signing_time() -> None:
    seen = webhook(created_at=after(300.001))
    assert seen.at == seen.until == NOON
    team = json.dumps({"event": "e", "objectType": "team", "createdAt": "2024-01-15T12:05:01Z"}).encode()
    read = decode_webhook(team).value
    assert event_time(read, NOON, TOLERANCE) == NOON
    assert event_time(read, after(1), TOLERANCE) == after(301)


def test_event_without_time_is_between_its_dates_and_signature() -> None:
    # The signature's time is cut to whole seconds, so it may have happened up to a second later.
    seen = webhook(created_at=None)
    assert (seen.at, seen.until) == (after(-3599.5), after(1))
    seen = webhook(created_at=None, finishedAt="2024-01-15T11:30:00Z")
    assert (seen.at, seen.until) == (after(-1800), after(1))


def test_what_it_mentions_of_the_future_is_no_lower_bound() -> None:
    seen = webhook(created_at=None, finishedAt="2024-01-15T13:00:00Z")
    assert (seen.at, seen.until) == (after(-3599.5), after(1))


def test_the_time_in_the_id_is_mentioned_too() -> None:
    assert webhook(created_at=None, createdAt=...).at == after(-3600)


def test_event_with_no_dates_is_at_most_a_day_old() -> None:
    seen = webhook(created_at=None, createdAt=..., _id="odd")
    assert (seen.at, seen.until) == (after(1) - timedelta(days=1), after(1))


@pytest.mark.parametrize(
    ("event", "needs_refetch"),
    [
        ("model.photos_ready", True),
        ("model.favorite_selected", True),
        ("model.status.updated", False),
        ("model.created", False),
        ("model.deleted", False),
        ("model.reborn", False),
    ],
)
def test_what_only_a_get_can_read_is_asked_for(event: str, needs_refetch: bool) -> None:
    assert webhook(event).needs_refetch is needs_refetch


# --- life and death


@pytest.mark.parametrize("status", ["active", DELETED, None, "paused", ...])
def test_model_deleted_means_deleted_whatever_its_status_says(status: Any) -> None:
    seen = webhook("model.deleted", status=status, deletedAt="2024-01-15T11:59:59Z")
    assert (seen.fields["status"], seen.deletion_evidence_at, seen.deleted_at) == (DELETED, NOON, after(-1))


@pytest.mark.parametrize("event", ["model.status.updated", "model.reborn"])
def test_the_status_deleted_means_deleted_whatever_the_event(event: str) -> None:
    seen = webhook(event, status=DELETED, deletedAt=None)
    assert (seen.deletion_evidence_at, seen.deleted_at) == (NOON, None)


def test_a_deletion_time_without_a_deletion_is_no_death() -> None:
    seen = webhook(deletedAt="2024-01-15T11:59:59Z")
    assert (seen.deletion_evidence_at, seen.deleted_at) == (None, None)


def test_a_death_without_a_time_is_as_young_as_its_signature() -> None:
    # A model dies once: no GET from before the signature may lift it.
    seen = webhook("model.deleted", created_at=None, deletedAt="2024-01-15T11:59:50Z")
    assert (seen.at, seen.deletion_evidence_at, seen.deleted_at) == (after(-10), after(1), after(-10))


def test_the_api_shows_the_dead_too() -> None:
    for seen in (listed(status=DELETED), single(status=DELETED)):
        assert (seen.deletion_evidence_at, seen.alive, seen.fields["status"]) == (after(0), False, DELETED)


@pytest.mark.parametrize("absent", [{"status": None}, {"status": msgspec.UNSET}])
def test_a_get_that_tells_no_status_proves_no_life(absent: dict[str, Any]) -> None:
    model = msgspec.structs.replace(msgspec.convert(API_MODEL, DetailedModel), **absent)
    seen = from_single(MODEL_ID, model, after(0), after(3))
    assert (seen.deletion_evidence_at, seen.alive) == (None, False)


def test_a_null_status_is_no_information_from_any_source() -> None:
    from_hook = webhook(status=None)
    model = msgspec.structs.replace(msgspec.convert(API_MODEL, DetailedModel), status=None)
    from_page, from_get = from_list(model, after(0), after(3)), from_single(MODEL_ID, model, after(0), after(3))
    created = from_created(
        CreatedModel(model_id=MODEL_ID, status=None), "a@b.c", None, is_development=True, sent_at=NOON, received_at=NOON
    )
    for seen in (from_hook, from_page, from_get, created):
        assert "status" not in seen.fields


def test_a_created_email_that_no_index_takes_is_left_out() -> None:
    made = CreatedModel(model_id=MODEL_ID, status="waiting")
    seen = from_created(made, "x" * 3000, "t1", is_development=False, sent_at=NOON, received_at=NOON)
    assert dict(seen.fields) == {"status": "waiting", "team_id": "t1", "is_development": False}


def test_an_absence_tells_nothing_but_a_death() -> None:
    seen = from_absence(MODEL_ID, NOON)
    assert (seen.at, seen.until, seen.deletion_evidence_at, seen.fields, seen.deleted_at) == (
        NOON,
        NOON,
        NOON,
        {},
        None,
    )
