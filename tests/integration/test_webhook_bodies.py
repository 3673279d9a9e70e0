"""The endpoint and bodies: which it refuses, which it keeps, how an event is named, and never a 500."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.broker.client import connect_redis
from service.broker.inbox import Inbox
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from tests.support.searching import examples
from tests.support.system import WEBHOOK_PATH, event_document, signed
from tests.support.webhook_endpoint import assert_refused, post, post_chunked, waiting

if TYPE_CHECKING:
    from flask.testing import FlaskClient

GOOD = event_document("6745a1b2c3d4e5f6a7b8c9d0")


def with_object(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "object": {**GOOD["object"], **fields}}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{",
        b'{"event": NaN}',
        b"\xff" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode() + b"{}",
        b"[" * 100_000,
        b'{"event": "model.created", "object": {"_id": "1"}, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        [],
        "model.deleted",
        1,
        None,
        {},
        without("event"),
        {**GOOD, "event": None},
        {**GOOD, "event": 5},
        {**GOOD, "event": ["model.deleted"]},
        without("object"),
        {**GOOD, "object": None},
        {**GOOD, "object": "6745a1b2c3d4e5f6a7b8c9d0"},
        {**GOOD, "object": {"id": "6745a1b2c3d4e5f6a7b8c9d0"}},
        with_object(_id=""),
        with_object(_id=None),
        with_object(_id=5),
        {**without("objectType"), "object": {}},
        {**GOOD, "objectType": None, "object": {}},
        {**GOOD, "createdAt": "yesterday"},
        {**GOOD, "createdAt": {}},
        {**GOOD, "createdAt": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_what_is_no_webhook_body_is_refused(endpoint: FlaskClient, redis_url: str, body: Any) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_refused(post(endpoint, raw), 400, "INVALID_REQUEST")
    assert waiting(redis_url) == []


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        without("id"),
        without("id", "createdAt"),
        without("objectType"),
        {**GOOD, "objectType": None},
        {**GOOD, "createdAt": None},
        {**GOOD, "event": "model.exploded", "more": {"fields": [1, None]}},
        with_object(status="brandNew", title=None, extra=1),
        # The drain reports wrong types inside the object: the event is kept for a person.
        with_object(status=5, finishedAt="soon", isDevelopment="yes"),
        with_object(_id="x" * 5000),
        {"event": "credits.low", "objectType": "organization"},
        {"event": "credits.low", "objectType": "organization", "object": {"left": 5}},
        {"event": "", "objectType": 5},
    ],
)
def test_everything_else_is_kept(endpoint: FlaskClient, redis_url: str, body: Any) -> None:
    raw = json.dumps(body).encode()
    assert post(endpoint, raw).status_code == 202
    assert [entry.body for entry in waiting(redis_url)] == [raw]


@pytest.mark.parametrize("given_id", [None, "", 7, "x" * 256, "half \ud800", "nul \0"])
def test_event_without_storable_id_gets_hash_of_signed_content(endpoint: FlaskClient, given_id: Any) -> None:
    body = json.dumps({**GOOD, "id": given_id}).encode()
    headers = signed(body)
    digest = hashlib.sha256(headers[TIMESTAMP_HEADER].encode() + b"." + body).hexdigest()
    answer = post(endpoint, body, **headers)
    assert answer.json == {"status": "accepted", "event": f"sha256:{digest}"}


texts = st.text(max_size=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
# A good body with some fields replaced and some left out, so that many are taken.
replaced = st.dictionaries(
    st.sampled_from(["id", "event", "createdAt", "objectType", "object", "more"]),
    st.one_of(values, st.datetimes().map(str), st.fixed_dictionaries({"_id": texts, "status": values})),
    max_size=3,
)
documents = st.builds(
    lambda fields, left_out: {name: value for name, value in {**GOOD, **fields}.items() if name not in left_out},
    replaced,
    st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
)
raw_bodies = st.one_of(
    documents.map(json.dumps).map(str.encode),
    values.map(json.dumps).map(str.encode),
    st.binary(max_size=50),
)
odd_headers = st.dictionaries(
    st.sampled_from([SIGNATURE_HEADER, TIMESTAMP_HEADER, "Content-Type", "Content-Encoding", "Expect", "Cookie"]),
    st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=20),
    max_size=1,
)


@settings(max_examples=examples(80), suppress_health_check=list(HealthCheck))
@given(body=raw_bodies, headers=odd_headers, chunked=st.booleans())
def test_no_delivery_gets_a_500(
    endpoint: FlaskClient, redis_url: str, body: bytes, headers: dict[str, str], chunked: bool
) -> None:
    sent = {**signed(body), **headers}
    answer = post_chunked(endpoint, body, sent) if chunked else endpoint.post(WEBHOOK_PATH, data=body, headers=sent)
    assert answer.status_code in {202, 400, 401, 415}
    found = waiting(redis_url)
    assert [entry.body for entry in found] == ([body] if answer.status_code == 202 else [])
    with connect_redis(redis_url) as client:
        Inbox(client, "test").done(found)
