"""A create with an `Idempotency-Key` happens once: repeats, races, faults, and processes that die in between."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.api.idempotency import MAX_PAGES
from tests.support.api import KEY, Api
from tests.support.list_vendor import list_vendor, model
from tests.support.odd_vendor import http, odd_vendor, refusal
from tests.support.system import NOWHERE
from tests.support.webhook_endpoint import assert_refused
from workers import jobs

if TYPE_CHECKING:
    import socket

    from tests.support.mirror import Mirror

ADA = {"email": "ada@example.com", "teamId": None}


@pytest.fixture
def api(mirrored: Mirror) -> Api:
    return Api.of(mirrored)


def ask(api: Api, key: str = "k1", body: object = ADA, **more: Any) -> Any:
    return api.call("POST", "", body, Idempotency_Key=key, **more)


def births(mirror: Mirror, email: str = "ada@example.com") -> int:
    return sum(model["email"] == email for model in mirror.truth().values())


def test_a_repeat_gets_the_same_response_and_creates_nothing(mirrored: Mirror, api: Api) -> None:
    first, second = ask(api), ask(api)
    assert first.status_code == second.status_code == 200
    # The login link too, though it is stored nowhere: a GET reads it.
    assert first.json == second.json
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert births(mirrored) == 1


def test_another_body_another_key_another_caller(mirrored: Mirror, api: Api) -> None:
    other = {"email": "bob@example.com"}
    made = ask(api).json["modelId"]
    assert_refused(ask(api, body=other), 422, "INVALID_REQUEST")
    assert not births(mirrored, "bob@example.com")
    # A caller with another API key has keys of its own.
    second = Api.of(mirrored, mirror_api_keys=f"{KEY},second")
    assert ask(second, body=other, key="k1", Authorization="Bearer second").json["modelId"] != made
    assert ask(api, "k2").json["code"] == "INVALID_REQUEST"


def test_a_refused_create_frees_its_key(mirrored: Mirror, api: Api) -> None:
    mirrored.set_switches(whitelabel=False)
    assert ask(api).status_code == 403
    mirrored.set_switches(whitelabel=True)
    assert ask(api).status_code == 200


def test_of_many_at_once_one_creates(mirrored: Mirror) -> None:
    apis = [Api.of(mirrored) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, apis))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert births(mirrored) == 1
    assert ask(apis[0]).status_code == 200


def test_a_repeat_while_the_first_is_in_flight_is_a_409(mirrored: Mirror, api: Api) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def late(connection: socket.socket) -> None:
        arrived.set()
        go_on.wait(20)
        connection.sendall(refusal(402, "INSUFFICIENT_CREDITS"))
        connection.close()

    with odd_vendor(late) as vendor, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, Api.of(mirrored, headshotpro_api_url=vendor.url))
        assert arrived.wait(20)
        refused = ask(api)
        go_on.set()
        assert first.result().status_code == 402
    assert_refused(refused, 409, "CONFLICT")
    assert int(refused.headers["Retry-After"]) > 0
    assert ask(api).status_code == 200


@pytest.mark.parametrize("pulled", [True, False])
def test_an_unknown_end_is_found_out_by_the_repeat(mirrored: Mirror, api: Api, *, pulled: bool) -> None:
    def done_unsaid(connection: socket.socket) -> None:
        mirrored.vendor.api("POST", "/organization/models", ADA)
        connection.close()

    with odd_vendor(done_unsaid) as vendor:
        assert_refused(ask(Api.of(mirrored, headshotpro_api_url=vendor.url)), 502, "UPSTREAM_ERROR")
    if pulled:
        mirrored.advance_vendor_clock(1)
        mirrored.pull()
    again = ask(api)
    assert again.status_code == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    assert mirrored.truth()[again.json["modelId"]]["email"] == "ada@example.com"
    assert again.json["signedUrl"]
    assert ask(api).json["modelId"] == again.json["modelId"]
    assert births(mirrored) == 1


def test_an_unknown_end_of_nothing_is_made_good_by_the_repeat(mirrored: Mirror, api: Api) -> None:
    with odd_vendor(http(200, b"no JSON")) as vendor:
        assert_refused(ask(Api.of(mirrored, headshotpro_api_url=vendor.url)), 502, "UPSTREAM_ERROR")
    assert ask(Api.of(mirrored, headshotpro_api_url=NOWHERE)).status_code == 502
    assert ask(api).status_code == 200
    assert births(mirrored) == 1


def test_an_address_that_had_its_model_before_stays_refused(mirrored: Mirror, api: Api) -> None:
    mirrored.create(email="ada@example.com", createdAt="2024-01-15T10:30:00.000Z")
    with odd_vendor(http(200, b"no JSON")) as vendor:
        assert ask(Api.of(mirrored, headshotpro_api_url=vendor.url)).status_code == 502
    assert_refused(ask(api), 400, "INVALID_REQUEST")


def test_model_of_an_earlier_try_is_found_behind_short_pages(mirrored: Mirror) -> None:
    records = [model(number, status="onboarding") for number in range(120)]
    records[60] |= {"email": "ada@example.com", "createdAt": datetime.now(UTC).isoformat()}
    with odd_vendor(http(200, b"no JSON")) as vendor:
        assert ask(Api.of(mirrored, headshotpro_api_url=vendor.url)).status_code == 502
    with list_vendor(records) as vendor:
        vendor.page = lambda limit, offset, status: vendor.honest(min(limit, 50), offset, status)
        vendor.created = 400, {"success": False, "error": "exists", "code": "INVALID_REQUEST"}
        repeated = ask(Api.of(mirrored, headshotpro_api_url=vendor.url))
    assert (repeated.status_code, repeated.json["modelId"]) == (200, records[60]["id"])


@pytest.mark.parametrize(("longest", "pages"), [(1, MAX_PAGES), (0, 1)])
def test_search_for_an_earlier_try_reads_few_pages(mirrored: Mirror, api: Api, longest: int, pages: int) -> None:
    with odd_vendor(http(200, b"no JSON")) as vendor:
        assert ask(Api.of(mirrored, headshotpro_api_url=vendor.url)).status_code == 502
    with list_vendor([model(number, status="onboarding") for number in range(60)]) as vendor:
        # Each says that more follow; of pages without a model that is no end.
        vendor.page = lambda limit, offset, status: vendor.honest(min(limit, longest), offset, status)
        vendor.created = 400, {"success": False, "error": "exists", "code": "INVALID_REQUEST"}
        assert_refused(ask(Api.of(mirrored, headshotpro_api_url=vendor.url)), 400, "INVALID_REQUEST")
    assert vendor.lists == pages
    # The key is new again.
    assert ask(api).status_code == 200


def test_a_process_that_died_stands_in_nobodys_way_for_long(mirrored: Mirror, api: Api) -> None:
    assert ask(api).status_code == 200
    # As a process leaves it that dies between the upstream's answer and its own transaction.
    mirrored.sql("update headshotpro.idempotency_keys set model_id = null, leased_until = now() + interval '1 minute'")
    assert_refused(ask(api), 409, "CONFLICT")
    mirrored.sql("update headshotpro.idempotency_keys set leased_until = now()")
    assert ask(api).headers["Idempotent-Replayed"] == "true"
    assert births(mirrored) == 1


def test_keys_expire_after_a_day(mirrored: Mirror, api: Api) -> None:
    made = ask(api).json["modelId"]
    mirrored.sql("update headshotpro.idempotency_keys set claimed_at = now() - interval '25 hours'")
    assert ask(api, body={"email": "bob@example.com"}).json["modelId"] != made
    mirrored.sql("update headshotpro.idempotency_keys set claimed_at = now() - interval '25 hours'")
    jobs.install(mirrored.runtime)
    jobs.apply_retention()
    assert mirrored.sql("select * from headshotpro.idempotency_keys") == []


def test_a_repeat_for_a_model_that_is_gone_says_which_it_was(mirrored: Mirror, api: Api) -> None:
    made = ask(api).json["modelId"]
    assert api.call("DELETE", f"/{made}").status_code == 200
    assert ask(api).json == {"success": True, "modelId": made, "status": "onboarding"}
