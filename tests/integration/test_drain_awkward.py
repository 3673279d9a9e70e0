"""Unexpected events of the vendor: none of them blocks a batch, and nearly all are applied."""

from __future__ import annotations

import random

import pytest

from service.upstream.json_text import MAX_DEPTH
from tests.support.drainer import T0, Drainer, minutes
from tests.support.system import event_body, model_row, new_id, rows

AWKWARD: dict[str, bytes] = {
    "NUL in a title": b'{"_id": "$ID", "status": "active", "title": "a\\u0000b"}',
    "NUL in a name of a field": b'{"_id": "$ID", "status": "active", "a\\u0000": 1}',
    "half a character": b'{"_id": "$ID", "status": "active", "title": "half \\ud83d"}',
    "the other half": b'{"_id": "$ID", "status": "active", "title": "\\ude00 half"}',
    "half a character in a skipped field": b'{"_id": "$ID", "status": "active", "more": ["\\ud83d"]}',
    "an exponent past every range": b'{"_id": "$ID", "status": "active", "more": 1e400}',
    "a negative exponent past every range": b'{"_id": "$ID", "status": "active", "more": 1e-99999}',
    "an integer of 200,000 digits": b'{"_id": "$ID", "status": "active", "more": ' + b"9" * 200_000 + b"}",
    "a fraction of 200,000 digits": b'{"_id": "$ID", "status": "active", "more": 0.' + b"1" * 200_000 + b"}",
    "an id of a number's size": b'{"_id": "$ID", "status": "active", "uid": "99999999999999999999999"}',
    "a title of 200,000 characters": b'{"_id": "$ID", "status": "active", "title": "' + b"t\xc3\xa9" * 66_000 + b'"}',
    "300 levels of nesting": b'{"_id": "$ID", "status": "active", "more": ' + b"[" * 300 + b"]" * 300 + b"}",
    "the last moment": b'{"_id": "$ID", "status": "active", "inviteExpiresAt": "9999-12-31T23:59:59.999999Z"}',
    "the first moment": b'{"_id": "$ID", "status": "active", "createdAt": "0001-01-01T00:00:00Z"}',
    "a leap second": b'{"_id": "$ID", "status": "active", "finishedAt": "2016-12-31T23:59:60Z"}',
    "an id of 300 characters": b'{"_id": "' + b"i" * 300 + b'", "status": "active"}',
    "an id of 100,000 characters": b'{"_id": "' + b"i" * 100_000 + b'", "status": "active"}',
    "an id of one dot": b'{"_id": ".", "status": "active"}',
    "an id of two dots": b'{"_id": "..", "status": "active"}',
    "a status that fits no index": b'{"_id": "$ID", "status": "'
    + random.Random(2).randbytes(4000).hex().encode()
    + b'"}',
    "the same field twice": b'{"_id": "$ID", "status": "pending", "status": "active"}',
    "quotes and backslashes": b'{"_id": "$ID", "status": "active", "title": "\\"{}\\\\x00\\\\u0000,NULL"}',
}
# Events that name no model that could have a row; all others are applied.
DEAD = {"an id of 300 characters", "an id of 100,000 characters", "an id of one dot", "an id of two dots"}


@pytest.mark.parametrize("awkward", AWKWARD)
def test_nothing_that_the_vendor_can_send_blocks_its_batch(drainer: Drainer, awkward: str) -> None:
    before, after, model = new_id(), new_id(), new_id()
    shaped = AWKWARD[awkward].replace(b"$ID", model.encode())
    body = (
        b'{"id": "evt_odd", "event": "model.status.updated", "createdAt": "2026-01-02T03:04:05Z", "object": %s}'
        % shaped
    )
    drainer.take(event_body(before, at=T0), body, event_body(after, at=T0))
    assert drainer.row(before)["status"] == drainer.row(after)["status"] == "active"
    event = drainer.event("evt_odd")
    assert event["status"] == ("dead" if awkward in DEAD else "applied")
    assert (model_row(drainer.url, model) is None) == (awkward in DEAD)
    assert event["payload"]["event"] == "model.status.updated"
    drainer.assert_empty()
    # Nor does it block the model itself later on.
    assert drainer.take(event_body(model, at=minutes(5), status="failed", title="later")) == {"applied": 1}
    assert drainer.row(model)["title"] == "later"


@pytest.mark.parametrize("depth", [900, MAX_DEPTH - 1, MAX_DEPTH, 5000, 60_000])
def test_deeply_nested_body_is_dead_alone_and_kept_as_text(drainer: Drainer, depth: int) -> None:
    # `1e999` has to be mended before Postgres takes it.
    nested = b"[" * depth + b"1e999" + b"]" * depth
    body = b'{"id": "evt_deep", "event": "e", "object": {"_id": "deep", "status": "active"}, "x": %s}' % nested
    results = drainer.take(body, event_body(new_id(), at=T0))
    drainer.assert_empty()
    if depth < MAX_DEPTH:
        assert results == {"applied": 2}
        assert isinstance(drainer.event("evt_deep")["payload"], dict)
        return
    assert results == {"applied": 1, "dead": 1}
    # What cannot be read has no id of its own.
    (dead,) = rows(drainer.url, "select payload, error from headshotpro.webhook_events where status = 'dead'")
    assert dead["payload"] == body.decode()
    assert f"nested deeper than {MAX_DEPTH} levels" in dead["error"]
