"""The rights of each scope of key, the cost of a fresh read, and the response to a wrong key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.web.auth import MAX_FAILED_KEYS
from tests.support.api import KEY, READ_KEY, Api
from tests.support.mirror import SINGLE
from tests.support.processes import eventually
from tests.support.webhook_endpoint import NOBODY, assert_refused, client_of

if TYPE_CHECKING:
    from pathlib import Path

    import redis
    from werkzeug.test import TestResponse

    from tests.support.mirror import Mirror

METRICS_KEY = "key-that-scrapes"
KEYS = f"billing={KEY},reports=ro:{READ_KEY},prometheus=metrics:{METRICS_KEY}"
SOMEBODY = {"email": "somebody@example.com"}


@pytest.fixture
def api(mirrored: Mirror) -> Api:
    return Api.of(mirrored, mirror_api_keys=KEYS)


def scraped(api: Api, key: str) -> TestResponse:
    return api.app.get("/metrics", headers={"Authorization": f"Bearer {key}"})


def refused_keys(api: Api) -> dict[str, float]:
    """The counts on `/metrics`; they get there within a second or so."""
    lines = [line for line in scraped(api, METRICS_KEY).text.splitlines() if "refused_keys_total{" in line]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def test_metrics_key_reads_metrics_and_nothing_else(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    assert scraped(api, METRICS_KEY).status_code == 200
    for method, path in (("GET", ""), ("GET", f"/{one}"), ("HEAD", ""), ("POST", ""), ("DELETE", f"/{one}")):
        answer = api.call(method, path, SOMEBODY if method == "POST" else None, key=METRICS_KEY)
        assert answer.status_code == 403, (method, path)
    assert_refused(api.call("GET", key=METRICS_KEY), 403, "FORBIDDEN")
    assert mirrored.model(one)["status"] != "deleted"


def test_read_only_key_spends_no_request_of_the_vendors(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    mirrored.forget_requests()
    for method in ("GET", "HEAD"):
        for query in ("fresh=true", "fresh=1", "fresh=true&fresh=false", "fresh=TRUE"):
            answer = api.call(method, f"/{one}?{query}", key=READ_KEY)
            assert answer.status_code in (400, 403), query
    assert_refused(api.call("GET", f"/{one}?fresh=true", key=READ_KEY), 403, "FORBIDDEN")
    for path in ("", f"/{one}", f"/{one}?fresh=false", "?updatedSince=0", "/507f1f77bcf86cd799439011"):
        assert api.call("GET", path, key=READ_KEY).status_code in (200, 404)
    for method, path in (("POST", ""), ("DELETE", f"/{one}"), ("PUT", ""), ("PATCH", f"/{one}")):
        assert api.call(method, path, SOMEBODY, key=READ_KEY).status_code in (403, 405)
    assert not mirrored.request_counts(SINGLE)
    assert not mirrored.request_counts()


def test_second_fresh_read_within_five_seconds_comes_from_mirror(mirrored: Mirror, api: Api) -> None:
    one, other = api.ids("?limit=2")
    mirrored.forget_requests()
    first = api.get(f"/{one}?fresh=true")["model"]
    again = api.get(f"/{one}?fresh=true")["model"]
    assert mirrored.request_counts(SINGLE)[200] == 1
    assert "signedUrl" in first
    assert {**again, "signedUrl": first["signedUrl"]} == first
    # It holds for this model alone, and for all web processes together.
    api.get(f"/{other}?fresh=true")
    Api.of(mirrored, mirror_api_keys=KEYS).get(f"/{one}?fresh=true")
    assert mirrored.request_counts(SINGLE)[200] == 2
    assert 0 < mirrored.runtime.redis.pttl(f"headshotpro:fresh:{one}") <= 5000  # type: ignore[operator]


def test_fresh_read_that_failed_may_be_tried_again_at_once(mirrored: Mirror, api: Api) -> None:
    one = api.ids("?limit=1")[0]
    mirrored.vanish(one)
    mirrored.forget_requests()
    for _ in range(2):
        assert_refused(api.call("GET", f"/{one}?fresh=true"), 404, "NOT_FOUND")
    assert mirrored.request_counts(SINGLE)[404] == 2


def test_wrong_keys_get_429_after_ten_and_right_keys_still_pass(mirrored: Mirror, api: Api) -> None:
    for _ in range(MAX_FAILED_KEYS // 2):
        answer = api.call("GET", key="wrong")
        assert_refused(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert_refused(scraped(api, "wrong"), 401, "UNAUTHORIZED")
    for answer in (api.call("GET", key="wrong"), api.call("POST", body=SOMEBODY, key="wrong"), scraped(api, "wrong")):
        assert_refused(answer, 429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    # Another web process counts the same; no key at all is no guess; a right key passes, from the same address.
    assert Api.of(mirrored, mirror_api_keys=KEYS).call("GET", key="wrong").status_code == 429
    assert api.call("GET", key=None).status_code == 401
    assert api.call("GET", key=READ_KEY).status_code == 200
    elsewhere = api.app.get(
        "/metrics", headers={"Authorization": "Bearer wrong"}, environ_base={"REMOTE_ADDR": "192.0.2.1"}
    )
    assert elsewhere.status_code == 401
    # A header that every client may send does not change the address.
    assert api.call("GET", key="wrong", X_Forwarded_For="192.0.2.9").status_code == 429
    expected = {"missing": 1, "wrong": MAX_FAILED_KEYS + 1, "limited": 5}
    assert eventually(lambda: refused_keys(api) == expected), refused_keys(api)


def test_limit_ends_by_itself(mirrored: Mirror, api: Api) -> None:
    for _ in range(MAX_FAILED_KEYS + 1):
        api.call("GET", key="wrong")
    assert api.call("GET", key="wrong").status_code == 429
    (key,) = mirrored.runtime.redis.scan_iter("headshotpro:failed_keys:*")
    assert 0 < mirrored.runtime.redis.ttl(key) <= 60  # type: ignore[operator]
    mirrored.runtime.redis.delete(key)
    assert api.call("GET", key="wrong").status_code == 401


def test_wrong_key_is_refused_while_redis_is_unavailable(folder: Path) -> None:
    web = client_of(folder, MIRROR_API_KEYS=KEYS, REDIS_URL=f"redis://{NOBODY}/0")
    for _ in range(MAX_FAILED_KEYS + 2):
        assert web.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert web.get("/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"}).status_code == 200


def test_log_names_the_key_and_never_shows_one(mirrored: Mirror, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = "guess-that-nobody-may-read"
    loud = Api.of(mirrored, mirror_api_keys=KEYS, log_level="info")
    for _ in range(MAX_FAILED_KEYS + 5):
        loud.call("GET", key=wrong)
    made = loud.call("POST", "", SOMEBODY)
    assert made.status_code == 200, made.text
    assert made.json is not None
    assert loud.call("DELETE", f"/{made.json['modelId']}").status_code == 200
    lines = capfd.readouterr().err
    created, deleted = (line for line in lines.splitlines() if "api.created" in line or "api.deleted" in line)
    assert '"key": "billing"' in created
    assert '"key": "billing"' in deleted
    # One line for each wrong key up to the limit, and one that says that there are more.
    assert lines.count("key.refused") == MAX_FAILED_KEYS + 1
    assert '"address": "127.0.0.1"' in lines
    for word in (wrong, KEY, READ_KEY, METRICS_KEY):
        assert word not in lines


def test_name_of_one_request_is_not_in_lines_of_the_next(mirrored: Mirror, capfd: pytest.CaptureFixture[str]) -> None:
    loud = Api.of(mirrored, mirror_api_keys=KEYS, log_level="info")
    assert loud.call("DELETE", "/507f1f77bcf86cd799439011").status_code == 404
    capfd.readouterr()
    loud.call("GET", key="wrong")
    assert "billing" not in capfd.readouterr().err


def test_names_reach_redis_under_the_prefix_alone(mirrored: Mirror, api: Api) -> None:
    api.call("GET", key="wrong")
    api.get(f"/{api.ids('?limit=1')[0]}?fresh=true")
    client: redis.Redis = mirrored.runtime.redis
    assert {key for key in client.scan_iter() if not key.startswith((b"headshotpro:", b"rq:"))} == set()
