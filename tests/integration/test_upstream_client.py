"""The client against the sandbox, over HTTP: the five calls, their errors, the rate limit, a hostile vendor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from service.errors import KeyRejected, ModelNotFound, UpstreamFailed, UpstreamRejected, UpstreamUnreachable
from service.upstream.budget import Priority, RequestBudget
from service.upstream.client import UpstreamClient
from tests.support.vendor import SandboxClient

REFETCH, FULL = Priority.REFETCH, Priority.FULL

Start = Callable[..., tuple[UpstreamClient, "Vendor"]]


class Vendor(SandboxClient):
    """A sandbox, seen past our client."""

    def __init__(self, sandbox: Any) -> None:
        super().__init__(sandbox)
        self.url, self.api_key = sandbox.url, sandbox.api_key

    def connect(self, budget: RequestBudget | None = None, **more: Any) -> UpstreamClient:
        return UpstreamClient(self.url, self.api_key, budget, **more)

    def statuses(self) -> dict[int, int]:
        """How often it answered with each status; 0 is a connection that it dropped."""
        counts: dict[int, int] = {}
        for row in self.control("GET", "/requests")["requests"]:
            counts[row["status"]] = counts.get(row["status"], 0) + row["count"]
        return counts


@pytest.fixture
def start(sandbox: Any) -> Start:
    """Starts a sandbox in which nothing happens by itself, and a client of it with the options in `client`."""

    def started(client: dict[str, Any] | None = None, **options: Any) -> tuple[UpstreamClient, Vendor]:
        vendor = Vendor(sandbox(quiet=True, **options))
        return vendor.connect(**(client or {})), vendor

    return started


def every_id(client: UpstreamClient, limit: int, **more: Any) -> list[str]:
    ids: list[str] = []
    while True:
        page = client.list_models(limit=limit, offset=len(ids), priority=REFETCH, **more).body
        ids += [model.id for model in page.models]
        if not page.pagination.has_more:
            return ids


# --- the five calls


def test_pages_of_any_size_show_the_same_models(start: Start) -> None:
    client, vendor = start(models=23)
    truth = {model["id"] for model in vendor.control("GET", "/models") if model["status"] != "deleted"}
    for limit in (1, 7, 50, 200):
        ids = every_id(client, limit)
        assert len(ids) == len(truth)
        assert set(ids) == truth
    page = client.list_models(limit=5, offset=2, priority=REFETCH).body
    assert (page.pagination.limit, page.pagination.offset, page.pagination.has_more) == (5, 2, True)


def test_filters_reach_the_vendor(start: Start) -> None:
    client, vendor = start(models=0)
    team_id = client.organization(priority=REFETCH).body.teams[0].id
    vendor.control("POST", "/models", {"n": 2, "status": "active", "teamId": team_id})
    vendor.control("POST", "/models", {"n": 3, "status": "failed", "teamId": team_id})
    assert len(every_id(client, 50, status="active")) == 2
    assert len(every_id(client, 50, status="failed", team_id=team_id)) == 3
    assert every_id(client, 50, team_id="team & nobody?") == []


def test_a_model_has_details_that_the_list_lacks(start: Start) -> None:
    client, vendor = start(models=0)
    (made,) = vendor.control("POST", "/models", {"status": "active"})
    listed = client.list_models(priority=REFETCH).body.models[0]
    single = client.get_model(made["id"], priority=REFETCH).body
    names = listed.__struct_fields__
    assert [getattr(listed, name) for name in names] == [getattr(single, name) for name in names]
    assert single.photo_count == made["photoCount"] > 0
    assert single.signed_url.startswith("https://")
    assert single.created_at.tzinfo is UTC


def test_a_created_model_can_be_deleted_once(start: Start) -> None:
    client, _ = start(models=0)
    created = client.create_model("ann@example.com", is_development=True, priority=REFETCH).body
    assert created.status == "onboarding"
    assert client.get_model(created.model_id, priority=REFETCH).body.is_development is True
    assert client.delete_model(created.model_id, priority=REFETCH).body.model_id == created.model_id
    with pytest.raises(UpstreamRejected):
        client.delete_model(created.model_id, priority=REFETCH)


@pytest.mark.parametrize("dialect", ["models", "others"])
def test_the_organization_is_read_in_both_dialects(start: Start, dialect: str) -> None:
    organization = start(dialect=dialect)[0].organization(priority=REFETCH).body
    assert organization.uid
    assert all(team.id and team.name for team in organization.teams)


def test_responses_are_dated_on_the_vendors_clock(start: Start) -> None:
    client, _ = start(models=1, skew=50)
    ahead = timedelta(seconds=50)
    before = datetime.now(UTC) + ahead
    answer = client.list_models(priority=REFETCH)
    after = datetime.now(UTC) + ahead
    assert answer.sent_at < before < after < answer.received_at
    assert answer.received_at - answer.sent_at < 2 * (after - before) + timedelta(seconds=4)


# --- refusals


def test_a_wrong_key_is_rejected(start: Start) -> None:
    client = UpstreamClient(start()[1].url, "wrong", None)
    with pytest.raises(KeyRejected) as raised:
        client.organization(priority=REFETCH)
    assert (raised.value.status, raised.value.code) == (401, "UNAUTHORIZED")
    assert "wrong" not in str(raised.value)


def test_the_vendors_refusals_keep_their_code(start: Start) -> None:
    client, _ = start(models=0, credits=1)
    client.create_model("ann@example.com", priority=REFETCH)
    for email, team_id, status in (("no address", None, 400), ("ann@example.com", None, 400), ("b@x.co", "t0", 404)):
        with pytest.raises(UpstreamRejected) as raised:
            client.create_model(email, team_id, priority=REFETCH)
        assert raised.value.status == status
        assert raised.value.code in ("INVALID_REQUEST", "NOT_FOUND")
        assert "ann@" not in str(raised.value)
    with pytest.raises(UpstreamRejected) as raised:
        client.create_model("bob@example.com", priority=REFETCH)
    assert (raised.value.status, raised.value.code) == (402, "INSUFFICIENT_CREDITS")


def test_without_whitelabel_a_create_is_forbidden(start: Start) -> None:
    client, _ = start(models=1, no_whitelabel=True)
    with pytest.raises(KeyRejected) as raised:
        client.create_model("ann@example.com", priority=REFETCH)
    assert (raised.value.status, raised.value.code) == (403, "FORBIDDEN")


def test_a_model_that_does_not_exist_is_not_found(start: Start) -> None:
    client, _ = start(models=1)
    for model_id in ("507f1f77bcf86cd799439011", "no/such id?"):
        with pytest.raises(ModelNotFound) as raised:
            client.get_model(model_id, priority=REFETCH)
        assert raised.value.sent_at < datetime.now(UTC) < raised.value.received_at + timedelta(seconds=60)


# --- connections and faults


def test_requests_share_a_connection(start: Start) -> None:
    client, vendor = start(models=300)
    vendor.control("DELETE", "/requests")
    before = vendor.control("GET", "/requests")["connections"]
    assert len(every_id(client, 50)) == len(every_id(client, 3, status=None))
    # The questions to the control API are connections too, one each.
    assert vendor.control("GET", "/requests")["connections"] <= before + 2
    assert vendor.statuses()[200] > 100


def test_a_hostile_vendor_is_read_all_the_same(start: Start) -> None:
    waits: list[float] = []
    client, vendor = start(models=120, errors=0.3, slow=0.05, rate=0, client={"pause": waits.append})
    ids: list[str] = []
    while len(ids) < 120:
        # Four faults in a row happen once in a hundred times; the caller's next round is a pull's own business.
        with suppress(UpstreamFailed, UpstreamUnreachable):
            ids += [model.id for model in client.list_models(limit=3, offset=len(ids), priority=REFETCH).body.models]
    assert len(set(ids)) == 120
    assert len(waits) > 0
    assert vendor.statuses()[500] > 0
    assert vendor.statuses()[0] > 0


def test_deletes_on_a_bad_line_are_told_truly(start: Start) -> None:
    client, vendor = start(models=0, errors=0.4, rate=0, client={"pause": lambda seconds: None})
    vendor.control("POST", "/models", {"n": 40, "status": "active"})
    told: dict[str, bool] = {}
    for model in vendor.control("GET", "/models"):
        with suppress(UpstreamFailed, UpstreamUnreachable, ModelNotFound):
            client.delete_model(model["id"], priority=REFETCH)
            told[model["id"]] = True
    gone = {model["id"] for model in vendor.control("GET", "/models") if model["status"] == "deleted"}
    assert len(told) >= 20
    assert told.keys() <= gone


def test_creates_on_a_bad_line_never_make_two(start: Start) -> None:
    client, vendor = start(models=0, errors=0.4, rate=0, client={"pause": lambda seconds: None})
    made = set()
    for number in range(30):
        with suppress(UpstreamFailed, UpstreamUnreachable):
            made.add(client.create_model(f"user{number}@example.com", priority=REFETCH).body.model_id)
    posts = [row for row in vendor.control("GET", "/requests")["requests"] if row["method"] == "POST"]
    assert sum(row["count"] for row in posts) == 30
    assert made <= {model["id"] for model in vendor.control("GET", "/models")}
    assert made


# --- the rate limit


@pytest.fixture
def budget(redis_url: str) -> Callable[..., RequestBudget]:
    """Makes one process's view of the budget that all share, with a window as short as the sandbox's."""
    return lambda share, window=3.5: RequestBudget(redis.Redis.from_url(redis_url), share, 0.1, window=window)


def test_a_spent_limit_is_waited_for_and_nothing_fails(start: Start) -> None:
    # No budget: only the vendor's own 429 holds the requests back.
    client, vendor = start(models=30, rate=10, rate_window=2)
    assert len(every_id(client, 1)) == 30
    # A 429 is waited for until its reset: the ends of two windows occur, each once or twice.
    assert vendor.statuses()[200] == 30
    assert 2 <= vendor.statuses()[429] <= 6


def test_threads_with_one_budget_meet_no_429(start: Start, budget: Callable[..., RequestBudget]) -> None:
    client, vendor = start(models=5, rate=20, rate_window=3, client={"budget": budget(0.5)})
    # The first response contains the limit; until then the vendor's usual one is assumed.
    client.organization(priority=REFETCH)
    others = [vendor.connect(budget(0.5)) for _ in range(4)]
    answers: list[int] = []

    def work(mine: UpstreamClient) -> None:
        answers.extend(len(mine.list_models(priority=FULL).body.models) for _ in range(6))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in others]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [5] * 24
    assert vendor.statuses() == {200: 25}
    # 25 requests at ten a window: the third window has to begin before the last one is sent.
    assert time.monotonic() - started > 5


def test_other_clients_of_the_organization_are_given_way(start: Start, budget: Callable[..., RequestBudget]) -> None:
    client, vendor = start(models=5, rate=10, rate_window=3, client={"budget": budget(1.0)})
    for _ in range(9):
        vendor.api("GET", "/organization")
    # The tenth answer says that nothing remains; the eleventh request waits for the reset instead of asking.
    for _ in range(2):
        client.organization(priority=REFETCH)
    assert vendor.statuses() == {200: 11}


def test_each_try_spends_budget(start: Start, redis_url: str) -> None:
    shared = RequestBudget(redis.Redis.from_url(redis_url), 0.8, 0.1)
    client, vendor = start(models=5, errors=0.5, client={"budget": shared, "pause": lambda seconds: None})
    for _ in range(10):
        with suppress(UpstreamFailed, UpstreamUnreachable):
            client.list_models(priority=REFETCH)
    assert shared.requests_left() == 240 - vendor.control("GET", "/requests")["total"]
    assert vendor.statuses() != {200: 10}
