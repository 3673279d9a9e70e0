"""The endpoint and the drain against malformed bodies: generated ones, and a corpus that is kept.

A generated body that fails is added to `corpus/` by hand; a file's name begins with its outcome.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from service.upstream.json_text import MAX_DEPTH
from tests.support.searching import examples
from tests.support.system import event_body, new_id
from tests.support.webhook_endpoint import assert_refused, client_of, post
from tests.support.webhooks import bodies

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from tests.support.drainer import Drainer

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"), key=lambda path: path.name)
ENDS = {"applied", "stale", "ignored", "dead"}


@pytest.fixture
def endpoint(folder: Path, redis_url: str) -> FlaskClient:
    return client_of(folder, REDIS_URL=redis_url)


def end_of(endpoint: FlaskClient, drainer: Drainer, body: bytes) -> str:
    """The outcome of a delivery between two others of its batch: its event's status, or `refused`."""
    before, after = new_id(), new_id()
    drainer.put(event_body(before))
    answer = post(endpoint, body)
    drainer.put(event_body(after))
    drainer.drain()
    assert drainer.row(before)["status"] == drainer.row(after)["status"] == "active"
    drainer.assert_empty()
    if answer.status_code == 202:
        assert answer.json is not None
        return str(drainer.event(answer.json["event"])["status"])
    assert_refused(answer, 400, "INVALID_REQUEST")
    return "refused"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once_ends_as_its_name_says(endpoint: FlaskClient, drainer: Drainer, path: Path) -> None:
    assert end_of(endpoint, drainer, path.read_bytes()) == path.stem.partition("-")[0]


def may_be_taken(body: bytes) -> set[bool]:
    """Whether CONTRACT.md lets a body in, read by another decoder than the endpoint's; both where it does not say."""
    doubtful: list[object] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        # No specification says which of two equal keys counts.
        doubtful.extend([True] if len(dict(found)) < len(found) else [])
        return dict(found)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    if b"[" * MAX_DEPTH in body:
        return {False}
    try:
        document = json.loads(body.decode(), parse_int=len, parse_constant=refuse, object_pairs_hook=pairs)
    except ValueError:
        return {False}
    return {True, False} if doubtful else _of_document(document)


def _of_document(document: Any) -> set[bool]:
    if not isinstance(document, dict) or not isinstance(document.get("event"), str):
        return {False}
    if document.get("objectType") in (None, "model"):
        model = document.get("object")
        if not isinstance(model, dict) or not isinstance(model.get("_id"), str) or not model["_id"]:
            return {False}
    at = document.get("createdAt")
    if at is None:
        return {True}
    # The forms of a time are many; a text that Python reads as one with an offset, and shows in UTC, is one.
    return {_is_time(at), isinstance(at, str)} if isinstance(at, str) else {False}


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(shape=bodies)
@example(shape=event_body("$MODEL", event_id=[]))
def test_any_body_gets_the_response_and_outcome_of_the_contract(
    endpoint: FlaskClient, drainer: Drainer, shape: bytes
) -> None:
    # Another event and model each time: what was processed once is passed over.
    body = shape.replace(b"$EVENT", new_id().encode()).replace(b"$MODEL", new_id().encode())
    end = end_of(endpoint, drainer, body)
    assert end in ENDS | {"refused"}
    assert (end != "refused") in may_be_taken(body)
