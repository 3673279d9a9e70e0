"""The endpoint over a real Redis: each of its answers and their order, health, and what it does without its servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from service.broker.client import connect_redis
from service.broker.jobs import DRAIN_QUEUE, rq_queue
from service.broker.stale_models import StaleModels
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from tests.support.processes import eventually
from tests.support.servers import crash
from tests.support.system import WEBHOOK_PATH, event_body, new_id, signed
from tests.support.webhook_endpoint import assert_refused, client_of, post, post_chunked, waiting

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

    from service.local.servers import Valkey

LARGEST = 256 * 1024
TOLERANCE = 300


def of_size(size: int) -> bytes:
    body = event_body(new_id(), title="")
    return body[:-1] + b" " * (size - len(body)) + b"}"


# The order of the checks: each delivery below is wrong in every way that comes later.


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_405_comes_first(endpoint: FlaskClient, method: str) -> None:
    answer = endpoint.open(WEBHOOK_PATH, method=method, data=b"x" * (LARGEST + 1), content_type="text/plain")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    if method != "HEAD":
        assert_refused(answer, 405, "METHOD_NOT_ALLOWED")


def test_413_comes_before_415(endpoint: FlaskClient) -> None:
    body = b"x" * (LARGEST + 1)
    assert_refused(post(endpoint, body, Content_Type="text/plain"), 413, "PAYLOAD_TOO_LARGE")
    # A body without a length is not read before its headers are judged.
    for headers, status in (({"Content-Type": "text/plain"}, 415), ({"Content-Type": "application/json"}, 401)):
        assert post_chunked(endpoint, body, headers).status_code == status


def test_415_comes_before_401(endpoint: FlaskClient) -> None:
    answer = post(endpoint, b"not json", Content_Type="text/plain", X_HeadshotPro_Signature=None)
    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_401_comes_before_400(endpoint: FlaskClient) -> None:
    assert_refused(post(endpoint, b"not json", X_HeadshotPro_Signature=None), 401, "UNAUTHORIZED")


def test_400_comes_before_503(folder: Path) -> None:
    assert_refused(post(client_of(folder), b"not json"), 400, "INVALID_REQUEST")


# Size.


def test_body_of_maximum_size_is_accepted_and_one_byte_more_not(endpoint: FlaskClient, redis_url: str) -> None:
    assert post(endpoint, of_size(LARGEST)).status_code == 202
    assert_refused(post(endpoint, of_size(LARGEST + 1)), 413, "PAYLOAD_TOO_LARGE")
    assert [len(entry.body) for entry in waiting(redis_url)] == [LARGEST]


def test_a_chunked_body_is_held_to_the_same_size(endpoint: FlaskClient, redis_url: str) -> None:
    for size, status in ((LARGEST, 202), (LARGEST + 1, 413), (4 * LARGEST, 413)):
        body = of_size(size)
        assert post_chunked(endpoint, body, signed(body)).status_code == status
    assert [len(entry.body) for entry in waiting(redis_url)] == [LARGEST]


# Content type.


@pytest.mark.parametrize(
    "given_type",
    [None, "", "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/cloud+json"],
)
def test_json_and_no_content_type_pass(endpoint: FlaskClient, given_type: str | None) -> None:
    assert post(endpoint, event_body(new_id()), Content_Type=given_type).status_code == 202


@pytest.mark.parametrize(
    "given_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
)
def test_other_content_types_do_not(endpoint: FlaskClient, given_type: str) -> None:
    assert_refused(post(endpoint, event_body(new_id()), Content_Type=given_type), 415, "UNSUPPORTED_MEDIA_TYPE")


# Signature.


def test_all_wrong_signatures_get_one_response(endpoint: FlaskClient, redis_url: str) -> None:
    body = event_body(new_id())
    now = time.time()
    wrong: list[dict[str, str | None]] = [
        {SIGNATURE_HEADER: None},
        {TIMESTAMP_HEADER: None},
        {SIGNATURE_HEADER: None, TIMESTAMP_HEADER: None},
        {SIGNATURE_HEADER: ""},
        {TIMESTAMP_HEADER: ""},
        {SIGNATURE_HEADER: "sha256=" + "0" * 64},
        {SIGNATURE_HEADER: signed(body)[SIGNATURE_HEADER].removeprefix("sha256=")},
        {SIGNATURE_HEADER: "sha256=\u00e9"},
        {TIMESTAMP_HEADER: str(int(now) - 60)},
        {TIMESTAMP_HEADER: "now"},
        {TIMESTAMP_HEADER: "1e9"},
        {TIMESTAMP_HEADER: "9" * 40},
        signed(body, secret="another"),
        signed(event_body(new_id())),
        signed(body, at=now - TOLERANCE - 5),
        signed(body, at=now + TOLERANCE + 5),
        signed(body, at=0),
    ]
    answers = [post(endpoint, body, **headers) for headers in wrong]
    for answer in answers:
        assert_refused(answer, 401, "UNAUTHORIZED")
    assert len({answer.data for answer in answers}) == 1
    assert waiting(redis_url) == []


def test_stale_delivery_requests_a_refetch_and_a_forged_one_not(endpoint: FlaskClient, redis_url: str) -> None:
    forged, stale = new_id(), new_id()
    old = time.time() - 2 * TOLERANCE
    assert post(endpoint, event_body(forged), **signed(event_body(forged), secret="another", at=old)).status_code == 401
    # The last two hold nothing that could be asked about.
    for body in (event_body(stale), event_body("x" * 5000), b"not json"):
        assert post(endpoint, body, **signed(body, at=old)).status_code == 401
    with connect_redis(redis_url) as client:
        assert StaleModels(client).waiting() == [stale]
        # Within a minute it is not asked again, also after it was asked.
        StaleModels(client).remove([stale])
        assert post(endpoint, event_body(stale), **signed(event_body(stale), at=old)).status_code == 401
        assert StaleModels(client).waiting() == []


def test_stale_delivery_older_than_a_day_requests_no_refetch(endpoint: FlaskClient, redis_url: str) -> None:
    day, body = 24 * 3600, event_body(new_id())
    assert post(endpoint, body, **signed(body, at=time.time() - day - 60)).status_code == 401
    with connect_redis(redis_url) as client:
        assert StaleModels(client).waiting() == []
    assert post(endpoint, body, **signed(body, at=time.time() - day + 60)).status_code == 401
    with connect_redis(redis_url) as client:
        assert len(StaleModels(client).waiting()) == 1


@pytest.mark.parametrize("off", [-TOLERANCE + 5, 0, TOLERANCE - 5])
def test_a_timestamp_within_the_tolerance_passes(endpoint: FlaskClient, off: int) -> None:
    body = event_body(new_id())
    assert post(endpoint, body, **signed(body, at=time.time() + off)).status_code == 202


def test_the_tolerance_is_a_setting(folder: Path, redis_url: str) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url, WEBHOOK_TOLERANCE_SECONDS="20")
    body = event_body(new_id())
    assert post(endpoint, body, **signed(body, at=time.time() - 10)).status_code == 202
    assert post(endpoint, body, **signed(body, at=time.time() - 30)).status_code == 401


def test_each_of_several_secrets_is_accepted(folder: Path, redis_url: str) -> None:
    endpoint = client_of(folder, REDIS_URL=redis_url, HEADSHOTPRO_WEBHOOK_SECRET="new, old")
    body = event_body(new_id())
    found = [
        post(endpoint, body, **signed(body, secret=secret)).status_code for secret in ("new", "old", "new, old", "")
    ]
    assert found == [202, 202, 401, 401]


# The URL.


def test_trailing_slash_is_the_same_endpoint(endpoint: FlaskClient, redis_url: str) -> None:
    body = event_body(new_id())
    assert endpoint.post(f"{WEBHOOK_PATH}/", data=body, headers=signed(body)).status_code == 202
    assert [entry.body for entry in waiting(redis_url)] == [body]
    assert_refused(endpoint.get(f"{WEBHOOK_PATH}/"), 405, "METHOD_NOT_ALLOWED")


# Taken.


def test_accepted_delivery_is_in_the_inbox_and_enqueues_a_drain(endpoint: FlaskClient, redis_url: str) -> None:
    body = event_body(new_id(), event_id="evt_1")
    before = time.time()
    answer = post(endpoint, body)
    assert (answer.status_code, answer.json) == (202, {"status": "accepted", "event": "evt_1"})
    (entry,) = waiting(redis_url)
    assert entry.body == body
    assert abs(entry.signed_at.timestamp() - before) < 60
    assert abs(entry.received_at.timestamp() - before) < 60
    with connect_redis(redis_url) as client:
        assert rq_queue(client, DRAIN_QUEUE).count == 1


def test_many_deliveries_ask_for_one_drain(endpoint: FlaskClient, redis_url: str) -> None:
    for _ in range(20):
        assert post(endpoint, event_body(new_id())).status_code == 202
    assert len(waiting(redis_url)) == 20
    with connect_redis(redis_url) as client:
        assert rq_queue(client, DRAIN_QUEUE).count == 1


# Unavailable.


def test_without_redis_the_vendor_is_told_to_come_again(folder: Path) -> None:
    before = time.monotonic()
    answer = post(client_of(folder), event_body(new_id()))
    assert_refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0
    assert time.monotonic() - before < 5
    assert b"hunter2" not in answer.data


def test_deliveries_are_taken_again_after_redis_came_back(folder: Path, own_valkey: Valkey) -> None:
    endpoint = client_of(folder, REDIS_URL=own_valkey.url)
    assert post(endpoint, event_body(new_id())).status_code == 202
    crash(own_valkey)
    assert [post(endpoint, event_body(new_id())).status_code for _ in range(3)] == [503] * 3
    own_valkey.boot()
    # A server that was down is not asked by every delivery, but by one each second.
    assert eventually(lambda: post(endpoint, event_body(new_id())).status_code == 202)
    # Those that were answered 202 are there, those that were answered 503 are not.
    assert len(waiting(own_valkey.url)) == 2


# Ours.


def test_fault_of_the_view_is_a_500_and_no_log_repeats_a_body(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_webhook: object, _signed_at: int, body: bytes) -> str:
        raise RuntimeError(body.decode())

    monkeypatch.setattr("service.web.webhook.event_id_of", fail)
    answer = post(client_of(folder), event_body(new_id(), title="Zaphod Leakwright"))
    assert_refused(answer, 500, "ERROR")
    said = capfd.readouterr().err
    assert "RuntimeError" in said
    assert "webhook.py" in said
    assert "Zaphod" not in said


# Everything else of the application.


def test_other_paths_are_404_in_the_same_form(endpoint: FlaskClient) -> None:
    for path in ("/webhooks", WEBHOOK_PATH + "//", "/console"):
        assert_refused(endpoint.get(path), 404, "NOT_FOUND")


def test_endpoint_without_secret_is_closed_and_readyz_says_so(folder: Path, redis_url: str, database_url: str) -> None:
    endpoint = client_of(
        folder, REDIS_URL=redis_url, DATABASE_URL=database_url, HEADSHOTPRO_WEBHOOK_SECRET="", MIRROR_API_KEYS="key"
    )
    body = event_body(new_id())
    for headers in (signed(body), signed(body, secret=""), {}):
        answer = endpoint.post(WEBHOOK_PATH, data=body, headers=headers)
        assert_refused(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
    assert endpoint.get(WEBHOOK_PATH).status_code == 405
    assert waiting(redis_url) == []
    ready = endpoint.get("/readyz")
    assert ready.status_code == 200
    assert ready.text.splitlines()[3] == "webhooks: closed, HEADSHOTPRO_WEBHOOK_SECRET is missing"
    for path in ("/api/v2/organization/models", "/metrics"):
        assert endpoint.get(path, headers={"Authorization": "Bearer key"}).status_code == 200, path
