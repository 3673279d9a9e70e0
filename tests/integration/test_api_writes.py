"""Writes of our API: through to the upstream, its errors unchanged, merged before the answer; and faults on the way."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.api.writes import UpstreamWriter
from service.broker.jobs import WORK_QUEUE, rq_queue
from service.errors import UpstreamTimeout
from tests.support.acting import TESTER
from tests.support.api import READ_KEY, Api
from tests.support.odd_vendor import client_of, http, odd_vendor, refusal
from tests.support.system import NOWHERE
from tests.support.webhook_endpoint import assert_refused
from workers import jobs

if TYPE_CHECKING:
    import socket

    from werkzeug.test import TestResponse

    from tests.support.mirror import Mirror

WEBHOOKS_ALONE = {"trigger", "invite_expires_at", "organization_id"}
SOMEBODY = {"email": "ada@example.com", "isDevelopment": False}


@pytest.fixture
def api(mirrored: Mirror) -> Api:
    return Api.of(mirrored)


def created(api: Api, body: object = SOMEBODY, **headers: str) -> dict[str, Any]:
    answer = api.call("POST", "", body, **headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return dict(answer.json)


def posts(mirror: Mirror) -> int:
    """How many creates the vendor was sent."""
    counted = mirror.vendor.control("GET", "/requests")["requests"]
    return sum(row["count"] for row in counted if row["method"] == "POST")


def test_created_model_is_mirrored_when_the_response_arrives(mirrored: Mirror, api: Api) -> None:
    team = next(iter(mirrored.vendor.api("GET", "/organization").document["organization"]["teams"]))["id"]
    made = created(api, {**SOMEBODY, "teamId": team})
    assert made.keys() == {"success", "modelId", "status", "signedUrl"}
    assert api.ids("?limit=1") == [made["modelId"]]
    assert mirrored.differences(ids={made["modelId"]}) == []
    assert {change["source"] for change in mirrored.changes(made["modelId"])} == {"api"}
    assert made["modelId"] not in mirrored.refetch_requests()


def test_the_webhook_of_a_create_adds_only_what_no_call_tells(mirrored: Mirror, api: Api) -> None:
    mirrored.enable_webhooks()
    made = created(api)["modelId"]
    before = len(mirrored.changes(made))
    shown = api.get(f"/{made}")
    mirrored.apply_webhooks()
    told = {name for change in mirrored.changes(made)[before:] for name in change["changed"]}
    assert told == WEBHOOKS_ALONE
    assert api.get(f"/{made}") == shown


def test_deleted_model_is_a_tombstone_when_the_response_arrives(mirrored: Mirror, api: Api) -> None:
    mirrored.enable_webhooks()
    one = api.ids("?limit=1")[0]
    # The pull was long ago: nothing that it showed may be as young as the webhook.
    mirrored.advance_vendor_clock()
    answer = api.call("DELETE", f"/{one}")
    assert answer.json == {"success": True, "message": "Model deleted successfully", "modelId": one}
    assert_refused(api.call("GET", f"/{one}"), 404, "NOT_FOUND")
    buried = mirrored.changes(one)[-1]
    assert (buried["to_status"], buried["source"]) == ("deleted", "api")
    mirrored.apply_webhooks()
    # The webhook adds its own time and the fields that only webhooks contain; nothing else.
    told = {name for change in mirrored.changes(one) if change["id"] > buried["id"] for name in change["changed"]}
    assert told <= {"deleted_at", *WEBHOOKS_ALONE}
    assert mirrored.model(one)["deleted_at"] == datetime.fromisoformat(mirrored.truth()[one]["deletedAt"])
    assert one not in mirrored.refetch_requests()


def same(ours: TestResponse, theirs: Any) -> bool:
    """Whether an error is the vendor's own, byte for byte as far as JSON goes."""
    return (ours.status_code, ours.json) == (theirs.status, theirs.document) and theirs.status >= 400


def test_the_upstreams_refusals_pass_unchanged(mirrored: Mirror, api: Api) -> None:
    known = api.get("?limit=1")["models"][0]
    gone = api.ids("?limit=1&offset=5")[0]
    mirrored.vendor.api("DELETE", f"/organization/models/{gone}")
    bodies = ({"email": "no address"}, {"email": known["email"]}, {**SOMEBODY, "teamId": "nosuch"})
    for body in bodies:
        assert same(api.call("POST", "", body), mirrored.vendor.api("POST", "/organization/models", body)), body
    for one in (gone, "ffffffffffffffffffffffff"):
        theirs = mirrored.vendor.api("DELETE", f"/organization/models/{one}")
        assert same(api.call("DELETE", f"/{one}"), theirs), one
    mirrored.set_switches(whitelabel=False)
    theirs = mirrored.vendor.api("POST", "/organization/models", SOMEBODY)
    assert theirs.status == 403
    assert same(api.call("POST", "", SOMEBODY), theirs)


def test_refusal_passes_with_retry_after_and_proxy_page_is_502(mirrored: Mirror) -> None:
    short = refusal(402, "INSUFFICIENT_CREDITS", "Not enough credits", Retry_After="7", X_Secret="no")
    with odd_vendor(short, refusal(401, "UNAUTHORIZED"), http(404, b"<html>"), refusal(500, "OUCH")) as vendor:
        api = Api.of(mirrored, headshotpro_api_url=vendor.url)
        answer = api.call("POST", "", SOMEBODY)
        assert (answer.status_code, answer.json["code"]) == (402, "INSUFFICIENT_CREDITS")
        assert answer.headers["Retry-After"] == "7"
        assert "X-Secret" not in answer.headers
        # The mirror's own key is wrong: no fault of the caller's.
        assert_refused(api.call("POST", "", SOMEBODY), 502, "UPSTREAM_ERROR")
        assert_refused(api.call("POST", "", SOMEBODY), 502, "UPSTREAM_ERROR")
        assert_refused(api.call("POST", "", SOMEBODY), 500, "OUCH")


def test_refused_delete_of_a_mirrored_model_requests_a_refetch(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    mirrored.vendor.api("DELETE", f"/organization/models/{one}")
    assert api.call("DELETE", f"/{one}").json["code"] == "ALREADY_DELETED"
    assert one in mirrored.refetch_requests()
    api.call("DELETE", "/ffffffffffffffffffffffff")
    assert set(mirrored.refetch_requests()) == {one}


def test_a_spent_budget_is_the_vendors_429(mirrored: Mirror) -> None:
    api = Api.of(mirrored, rate_budget=1e-6)
    mirrored.runtime.redis.flushall()
    created(api)
    refused = api.call("POST", "", {"email": "other@example.com"})
    assert_refused(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert int(refused.headers["Retry-After"]) > 0


def test_an_upstream_that_fails_or_is_gone(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    with odd_vendor(refusal(500, "INTERNAL_SERVER_ERROR")) as vendor:
        failing = Api.of(mirrored, headshotpro_api_url=vendor.url)
        assert_refused(failing.call("POST", "", SOMEBODY), 500, "INTERNAL_SERVER_ERROR")
    # It may have created a model with an unknown id: a hot pull is due, however recent the last one.
    assert rq_queue(mirrored.runtime.redis, WORK_QUEUE).count == 1
    away = Api.of(mirrored, headshotpro_api_url=NOWHERE)
    for method, path, body in (("POST", "", SOMEBODY), ("DELETE", f"/{one}", None), ("GET", f"/{one}?fresh=1", None)):
        assert_refused(away.call(method, path, body), 502, "UPSTREAM_ERROR")
    assert away.get("?limit=3")["models"]
    assert one in mirrored.refetch_requests()


def test_create_whose_status_is_no_text_has_made_its_model(mirrored: Mirror) -> None:
    with odd_vendor(http(200, {"success": True, "modelId": "5" * 24, "status": 5})) as vendor:
        made = Api.of(mirrored, headshotpro_api_url=vendor.url).call("POST", "", SOMEBODY)
    assert (made.status_code, made.json["modelId"]) == (200, "5" * 24)
    assert mirrored.model("5" * 24)["email"] == SOMEBODY["email"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"success": False, "error": "No."}, "INVALID_REQUEST"),
        ({"success": False, "error": 5, "code": 5}, "INVALID_REQUEST"),
        ({"error": "No.", "code": "ODD"}, "ODD"),
    ],
)
def test_incomplete_error_of_the_vendor_is_passed_on_whole(mirrored: Mirror, body: Any, code: str) -> None:
    with odd_vendor(http(400, body)) as vendor:
        assert_refused(Api.of(mirrored, headshotpro_api_url=vendor.url).call("POST", "", SOMEBODY), 400, code)


def test_model_of_a_create_without_response_is_found_by_pull(mirrored: Mirror, api: Api) -> None:
    def done_unsaid(connection: socket.socket) -> None:
        mirrored.vendor.api("POST", "/organization/models", SOMEBODY)
        connection.close()

    mirrored.pull("hot")
    with odd_vendor(done_unsaid) as vendor:
        away = Api.of(mirrored, headshotpro_api_url=vendor.url)
        assert_refused(away.call("POST", "", SOMEBODY), 502, "UPSTREAM_ERROR")
    assert not api.ids(f"?email={SOMEBODY['email']}")
    jobs.install(mirrored.runtime)
    # None is due by the interval; this one is asked for.
    jobs.pull("hot")
    assert not api.ids(f"?email={SOMEBODY['email']}")
    jobs.pull_now("hot")
    assert len(api.ids(f"?email={SOMEBODY['email']}")) == 1


def test_without_the_upstreams_key_only_reads_are_served(mirrored: Mirror) -> None:
    api = Api.of(mirrored, headshotpro_api_key=None)
    one = api.ids("?limit=1")[0]
    for method, path, body in (("POST", "", SOMEBODY), ("DELETE", f"/{one}", None), ("GET", f"/{one}?fresh=1", None)):
        refused = api.call(method, path, body)
        assert_refused(refused, 503, "UNAVAILABLE")
        assert "HEADSHOTPRO_API_KEY" in refused.json["error"]


def test_keys(mirrored: Mirror, api: Api) -> None:
    for header in ("", "Bearer", "Bearer wrong", "Basic key-of-ours", "Bearer key-of-ours2", "Bearer \xff"):
        assert_refused(api.call("GET", "", key=None, Authorization=header), 401, "UNAUTHORIZED")
    assert_refused(api.call("GET", "", key=None), 401, "UNAUTHORIZED")
    assert_refused(Api.of(mirrored, mirror_api_keys=None).call("GET"), 401, "UNAUTHORIZED")
    one = api.ids("?limit=1")[0]
    assert api.call("GET", f"/{one}", key=READ_KEY).status_code == 200
    for method, path in (("POST", ""), ("DELETE", f"/{one}")):
        assert_refused(api.call(method, path, SOMEBODY, key=READ_KEY), 403, "FORBIDDEN")
    assert not posts(mirrored)


BAD_BODIES = (
    b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"email": 1}', b'{"email": null}', b"\xff\xfe", b"[" * 60_000,
    b'{"email": "a\\u0000@b.example"}', b'{"email": "a\\ud800@b.example"}', b'{"email": "a@b.example", "teamId": 5}',
    b'{"email": "a@b.example", "isDevelopment": "yes"}', b'{"email": "a@b.example", "x": "\xff"}',
)  # fmt: skip


def test_odd_bodies_are_refused_before_the_vendor_sees_them(mirrored: Mirror, api: Api) -> None:
    for body in BAD_BODIES:
        assert_refused(api.call("POST", "", body), 400, "INVALID_REQUEST")
    assert_refused(api.call("POST", "", b" " * 70_000), 413, "PAYLOAD_TOO_LARGE")
    assert_refused(api.call("POST", "", SOMEBODY, Content_Type="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert_refused(api.call("POST", "", SOMEBODY, Idempotency_Key="x" * 256), 400, "INVALID_REQUEST")
    assert not posts(mirrored)


def test_timeout_of_a_delete_is_settled_by_a_refetch_request(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?status=active&limit=1")[0]

    def done_unsaid(_connection: socket.socket) -> None:
        mirrored.vendor.api("DELETE", f"/organization/models/{one}")

    with odd_vendor(done_unsaid) as vendor:
        runtime = mirrored.runtime
        writer = UpstreamWriter(
            runtime.engine, client_of(vendor, response_timeout=0.5), runtime.queue, runtime.stale_models
        )
        with pytest.raises(UpstreamTimeout):
            writer.delete(one, TESTER)
    assert mirrored.model(one)["status"] == "active"
    mirrored.set_switches(deleted="listed")
    mirrored.advance_vendor_clock()
    mirrored.make_refetches_due()
    mirrored.refetch()
    assert mirrored.model(one)["status"] == "deleted"


def test_write_done_upstream_succeeds_although_the_merge_fails(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    # Postgres answers when it is asked first, and refuses the merge.
    mirrored.sql("alter table headshotpro.model_changes add constraint stuck check (source <> 'api')")
    made = created(api)
    assert made["signedUrl"]
    assert api.call("DELETE", f"/{one}").status_code == 200
    assert mirrored.model(one)["status"] != "deleted"
    # Both are questions now, and the answers bring the mirror up to them.
    assert set(mirrored.runtime.stale_models.waiting()) == {one, made["modelId"]}


def test_a_link_that_logs_in_is_kept_nowhere(mirrored: Mirror, api: Api) -> None:
    made = created(api, Idempotency_Key="k")
    token = made["signedUrl"].partition("token=")[2][:64]
    for table in ("models", "model_changes", "webhook_events", "idempotency_keys"):
        assert token not in str(mirrored.sql(f"select t::text from headshotpro.{table} as t"))
    redis = mirrored.runtime.redis
    assert not [key for key in redis.scan_iter() if token.encode() in (redis.dump(key) or b"")]
