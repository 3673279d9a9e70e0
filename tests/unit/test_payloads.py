"""The decoded payloads of the vendor: both documented webhook forms, unknown fields, and malformed bodies."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from service.config import environment
from service.errors import ApiError
from service.upstream.json_text import storable
from service.upstream.payloads import (
    CreatedModel,
    DetailedModel,
    ListedModel,
    ModelPage,
    WebhookModel,
    created_at_of,
    decode_webhook,
)
from service.upstream.records import read_organization, read_single

MODEL_ID = "507f1f77bcf86cd799439011"
NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


def event_body(**changes: Any) -> bytes:
    """A webhook body of the vendor's; a changed field whose value is UNSET is left out."""
    whole = {
        "id": "evt_8d1f",
        "event": "model.deleted",
        "createdAt": "2024-01-15T12:00:00.000Z",
        "objectType": "model",
        "object": {"_id": MODEL_ID, "title": "Ann", "status": "deleted", "organization": "org1"},
    } | changes
    return json.dumps({name: value for name, value in whole.items() if value is not UNSET}).encode()


def model_of(**fields: Any) -> bytes:
    return event_body(object={"_id": MODEL_ID, **fields})


def refusal(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as raised:
        decode_webhook(body)
    return raised.value


def head_of(body: bytes) -> tuple[str, str | None, datetime | None, str | None]:
    """A body's event, id, time and the model's id."""
    read = decode_webhook(body).value
    return read.event, read.event_id, read.created_at, read.model and read.model.object_id


def model_in(body: bytes) -> WebhookModel:
    model = decode_webhook(body).value.model
    assert model
    return model


# --- webhooks


def test_the_documented_body_is_read() -> None:
    assert head_of(event_body()) == ("model.deleted", "evt_8d1f", NOON, MODEL_ID)


def test_the_form_without_id_and_time_is_read() -> None:
    body = event_body(id=UNSET, createdAt=UNSET, objectType=UNSET)
    assert head_of(body) == ("model.deleted", None, None, MODEL_ID)


def test_null_counts_as_absent() -> None:
    body = event_body(id=None, createdAt=None, objectType=None)
    assert head_of(body) == ("model.deleted", None, None, MODEL_ID)


@pytest.mark.parametrize(
    "sent",
    ["2024-01-15T12:00:00Z", "2024-01-15T13:00:00+01:00", "2024-01-15T12:00:00", "2024-01-15t12:00:00.000000z"],
)
def test_times_come_out_in_utc(sent: str) -> None:
    read = decode_webhook(event_body(createdAt=sent)).value.created_at
    assert read == NOON
    assert read.utcoffset() == timedelta(0)


def test_a_time_without_zone_is_utc_wherever_the_machine_stands() -> None:
    program = """if True:
        import sys
        from service.upstream.payloads import decode_webhook
        print(decode_webhook(sys.stdin.buffer.read()).value.created_at.isoformat())"""
    body = event_body(createdAt="2024-01-15T12:00:00")
    ran = subprocess.run(
        [sys.executable, "-c", program], input=body, env=environment(TZ="EAST-9"), capture_output=True, check=True
    )
    assert ran.stdout == b"2024-01-15T12:00:00+00:00\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b'{"event":"model.created"',
        b'{"event":"model.created"} trailing',
        b"\xef\xbb\xbf" + event_body(),
        event_body(objectType="team")[:-1] + b',"note":"\xff"}',
        event_body(objectType="team")[:-1] + b',"note":NaN}',
        event_body(objectType="team")[:-1] + b',"note":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        event_body(event=UNSET),
        event_body(event=None),
        event_body(event=7),
        event_body(object=UNSET),
        event_body(object=None),
        event_body(object=MODEL_ID),
        event_body(object=[]),
        event_body(object={}),
        model_of(_id=""),
        model_of(_id=7),
        model_of(_id=None),
        event_body(objectType=UNSET, object={}),
        event_body(createdAt="yesterday"),
        event_body(createdAt=""),
        event_body(createdAt=1705320000),
        event_body(createdAt={}),
        event_body(createdAt="2024-13-15T12:00:00Z"),
        event_body(createdAt="0001-01-01T00:00:00+05:00"),
        event_body(createdAt="9999-12-31T23:59:59-05:00"),
        event_body(createdAt="yesterday", objectType="team"),
    ],
)
def test_what_is_no_webhook_body_is_refused(body: bytes) -> None:
    error = refusal(body)
    assert (error.status, error.code, error.label) == (400, "INVALID_REQUEST", "malformed")


@pytest.mark.parametrize(
    ("changes", "event_id"),
    [
        ({"event": "model.reborn"}, "evt_8d1f"),
        ({"event": ""}, "evt_8d1f"),
        ({"extra": {"deep": [1, 2]}}, "evt_8d1f"),
        ({"object": {"_id": MODEL_ID, "title": 7, "status": [], "createdAt": "yesterday"}}, "evt_8d1f"),
        ({"id": 7}, None),
        ({"id": ""}, None),
        ({"id": "x" * 255}, "x" * 255),
        ({"id": "x" * 256}, None),
        ({"id": "with\0nul"}, None),
    ],
)
def test_nothing_else_about_a_model_is_refused(changes: dict[str, Any], event_id: str | None) -> None:
    _, read_id, _, model_id = head_of(event_body(**changes))
    assert (read_id, model_id) == (event_id, MODEL_ID)


@pytest.mark.parametrize("object_type", ["team", "", 7, False, ["model"]])
def test_an_event_about_something_else_names_no_model(object_type: Any) -> None:
    # Its object may be anything, and an id in it is not a model's.
    for thing in (UNSET, None, 7, {"_id": "t1"} if isinstance(object_type, str) else {}):
        assert decode_webhook(event_body(objectType=object_type, object=thing)).value.model is None


@pytest.mark.parametrize("object_type", [7, False, ["model"], {}])
def test_an_object_type_that_is_no_text_counts_as_absent(object_type: Any) -> None:
    assert model_in(event_body(objectType=object_type)).object_id == MODEL_ID


def test_text_that_postgres_cannot_store_is_mended_not_refused() -> None:
    # Half of an emoji is what JavaScript sends when it cuts a title at a fixed length.
    half = event_body(event="a\ud83d", object={"_id": "m\0", "title": "Ann \ud83d"})
    read = model_in(half)
    assert (decode_webhook(half).value.event, read.object_id, read.title) == ("a\ufffd", "m\ufffd", "Ann \ufffd")
    whole = model_of(title="Ann 😀")
    assert b"\\ud83d\\ude00" in whole
    assert model_in(whole).title == "Ann 😀"


def test_what_jsonb_cannot_hold_is_replaced_and_the_rest_kept() -> None:
    body = b'{"n\\u0000": "\\ud83d\\ude00 \\ude00", "far": [1e999, -1e999, 1.5, 12], "long": ' + b"9" * 5000 + b"}"
    kept = {"n\ufffd": "😀 \ufffd", "far": [None, None, 1.5, 12], "long": None}
    assert msgspec.json.decode(storable(body)) == kept
    # Nobody loses an event for such a number.
    assert model_in(event_body(note="\0", far=1).replace(b'"far": 1', b'"far": 1e999')).object_id == MODEL_ID


def test_refusals_repeat_nothing_of_the_body() -> None:
    for body in (event_body(event=["ann@example.com"]), event_body(createdAt="ann@example.com")):
        assert "ann@" not in str(refusal(body))


# The first text of a process takes seconds to draw: hypothesis builds its tables of Unicode then.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
odd_events = st.fixed_dictionaries(
    {},
    optional={
        "event": st.text() | json_values,
        "id": st.text() | json_values,
        "createdAt": st.datetimes().map(datetime.isoformat) | st.text() | json_values,
        "objectType": st.just("model") | json_values,
        "object": st.fixed_dictionaries({"_id": st.text() | json_values}) | json_values,
    },
)


@patient
@given(st.binary() | odd_events.map(lambda event: json.dumps(event).encode()))
@example(b'{"event":"e","object":{"_id":"\\ud800"}}')
@example(b'{"event":"\\u0000","object":{"_id":"m","x":1e999}}')
@example(b'{"event":"e","object":{"_id":"m","\\ud800":' + b"9" * 5000 + b"}}")
def test_any_bytes_give_storable_texts_or_a_refusal(body: bytes) -> None:
    try:
        read = decode_webhook(body).value
    except ApiError:
        return
    for text in head_of(body):
        assert not isinstance(text, str) or "\0" not in text.encode().decode()
    assert read.created_at is None or read.created_at.utcoffset() == timedelta(0)
    # Python's own reader would take Infinity for JSON.
    assert isinstance(msgspec.json.decode(storable(body)), dict)


def test_absent_is_no_information_and_null_is_a_value() -> None:
    webhook, unusable = decode_webhook(model_of(title=None, finishedAt="2024-01-15T12:00:00Z", deletedAt=None))
    assert unusable == ()
    read = webhook.model
    assert read
    assert (read.title, read.finished_at, read.deleted_at) == (None, NOON, None)
    assert {read.status, read.uid, read.trigger, read.organization_id, read.invite_expires_at} == {UNSET}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", 7),
        ("status", []),
        ("isDevelopment", "yes"),
        ("finishedAt", 5),
        ("finishedAt", ""),
        ("finishedAt", "9999-12-31T23:59:59-05:00"),
        ("deletedAt", "now"),
        ("inviteExpiresAt", "soon"),
        ("organization", {"_id": "o"}),
        ("trigger", ["male"]),
        ("uid", {}),
    ],
)
def test_a_wrong_field_of_the_object_is_absent(field: str, value: Any) -> None:
    good = {"uid": "u1", "title": "Ann", "status": "active", "createdAt": "2024-01-15T12:00:00Z"}
    read = decode_webhook(model_of(**{**good, field: value}))
    assert read.unusable == (field,)
    assert read.value.model == model_in(model_of(**{n: v for n, v in good.items() if n != field}))


def test_a_number_past_every_range_is_absent_not_null() -> None:
    body = model_of(title=1, uid="a\0").replace(b'"title": 1', b'"title": 1e999')
    assert model_in(body) == WebhookModel(object_id=MODEL_ID, uid="a\ufffd")
    assert decode_webhook(body).unusable == ("title",)


# --- the API


def test_a_page_with_fields_nobody_knows_is_read() -> None:
    body = b"""{"success": true, "more": 1, "pagination": {"total": 150, "limit": 25, "offset": 0, "hasMore": true},
        "models": [{"id": "m1", "teamId": null, "createdAt": "2024-01-15T12:00:00.000Z", "shoe": 42}]}"""
    page = msgspec.json.decode(body, type=ModelPage)
    assert page.models == (ListedModel(id="m1", team_id=None, created_at=NOON),)
    assert (page.pagination.total, page.pagination.has_more) == (150, True)
    assert page.models[0].email is UNSET


def test_no_repr_shows_a_person_or_a_login_link() -> None:
    body = b"""{"model": {"id": "m1", "email": "ann@example.com", "title": "Ann Lee", "photoCount": 40,
        "signedUrl": "https://example.com/auth?token=SECRET"}}"""
    model = read_single(body).body
    assert isinstance(model, DetailedModel)
    assert (model.photo_count, model.signed_url) == (40, "https://example.com/auth?token=SECRET")
    shown = repr(model) + repr(list(model.__rich_repr__())) + repr(CreatedModel(model_id="m1", signed_url="SECRET"))
    assert "id='m1'" in shown
    for hidden in ("ann", "Ann", "SECRET"):
        assert hidden not in shown


@pytest.mark.parametrize("name", ["organization", "data"])
def test_the_organization_is_found_under_either_name(name: str) -> None:
    body = json.dumps({name: {"uid": "o1", "name": "Acme", "teams": [{"id": "t1", "name": "Sales"}]}}).encode()
    found = read_organization(body).body
    assert (found.uid, found.name, found.website) == ("o1", "Acme", UNSET)
    assert found.teams[0].id == "t1"


def test_response_without_organization_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="no object"):
        read_organization(b'{"success": true}')


def test_creation_time_is_in_the_id() -> None:
    assert created_at_of(MODEL_ID) == datetime(2012, 10, 17, 21, 13, 27, tzinfo=UTC)
    for other in ("", "m1", MODEL_ID[:-1], MODEL_ID + "0", "g" * 24, "0x" + "1" * 22, "١" * 24, MODEL_ID + "\n"):
        assert created_at_of(other) is None
