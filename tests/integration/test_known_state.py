"""Missing knowledge is fetched the cheapest way: what each source costs in requests, and what is read when."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.inbox import Delivery
from service.broker.jobs import Job
from service.errors import UpstreamError
from service.mirror.detail_sweep import sweep
from service.mirror.profiles import gather
from service.storage import merged
from service.storage.database import transaction
from service.storage.refetches import RefetchReason, RefetchRequest
from service.upstream.client import UpstreamClient
from tests.support.list_vendor import models
from tests.support.mirror import DETAILS, LIST, LISTED, SINGLE
from tests.support.odd_vendor import http, odd_vendor
from tests.support.processes import eventually
from tests.support.system import event_body
from workers import jobs
from workers.schedule import SCHEDULE

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from tests.integration.conftest import StartOdd
    from tests.support.mirror import Mirror, StartMirror

LONG_AGO = "2024-01-15T12:00:00.000Z"
TOLD = ("title", "status", "uid", "trigger", "createdAt", "finishedAt", "organization")


def hear_of(here: Mirror, models: Sequence[dict[str, Any]]) -> None:
    """Events about models are all in the inbox at once, and applied."""
    for model in models:
        body = event_body(model["id"], "model.created", **{name: model[name] for name in TOLD})
        here.runtime.inbox.put(Delivery.arrived(body, int(time.time()), datetime.now(UTC)))
    here.apply_webhooks()


def ask_now(here: Mirror) -> None:
    """Ask every open question, long after it came up."""
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()


def ids_of(models: Sequence[dict[str, Any]]) -> set[str]:
    return {model["id"] for model in models}


# --- profiles


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_burst_of_1000_new_models_costs_few_pages_and_no_get(mirror: StartMirror, order: str) -> None:
    here = mirror(models=600, order=order)
    new = here.create(1000)
    # They come in the order of their creation: the first requests are about the models furthest from the end.
    for number in range(0, 1000, 250):
        hear_of(here, new[number : number + 250])
        here.make_refetches_due()
        here.refetch()
    # 1,000 are five pages and their overlaps; where the young end is the far one, one more finds it.
    assert here.request_counts(LIST).total() <= 8
    assert here.request_counts(SINGLE).total() == 0
    assert here.refetch_requests() == {}
    assert here.differences(LISTED, ids_of(new)) == []


def test_a_few_new_models_are_read_one_by_one(mirror: StartMirror) -> None:
    here = mirror(models=300, order="oldest")
    new = here.create(3)
    hear_of(here, new)
    here.make_refetches_due()
    here.refetch()
    assert (here.request_counts(LIST).total(), here.request_counts(SINGLE)) == (0, {200: 3})
    assert here.differences((*LISTED, *DETAILS), ids_of(new)) == []


def test_models_not_on_newest_pages_are_refetched_one_by_one(mirror: StartMirror) -> None:
    here = mirror(models=500)
    settled = [model for model in here.truth().values() if model["status"] == "active"]
    old = sorted(settled, key=lambda model: str(model["createdAt"]))[:8]
    hear_of(here, old)
    here.make_refetches_due()
    here.refetch()
    # Pages cost a fifth of what the GETs do, at most, and one.
    assert here.request_counts(LIST).total() <= 1 + 8 // 5
    assert here.request_counts(SINGLE) == {200: 8}
    assert here.differences((*LISTED, *DETAILS), ids_of(old)) == []


@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
def test_pages_that_the_upstream_makes_shorter_leave_no_gap(odd: StartOdd, order: int) -> None:
    vendor, here = odd(models(300)[::order])
    vendor.page = lambda limit, offset, status: vendor.honest(min(limit, 50), offset, status)
    now = datetime.now(UTC)
    wanted = [RefetchRequest(one["id"], None, RefetchReason.PROFILE, now) for one in vendor.records]
    with transaction(here.runtime.engine) as connection:
        merged.add_requests(connection, sorted(wanted))
    gather(here.runtime.engine, here.runtime.client, time.monotonic() + 60)
    assert here.sql("select model_id from headshotpro.refetch_requests where attempts > 0 or reason = 'profile'") == []
    assert vendor.lists <= 9


def test_try_that_fails_keeps_no_ids(mirror: StartMirror) -> None:
    here = mirror(models=0)
    hear_of(here, here.create(20))
    here.make_refetches_due()
    broken = http(500, {"success": False, "error": "Internal server error", "code": "INTERNAL_SERVER_ERROR"})
    with odd_vendor(broken) as odd, UpstreamClient(odd.url, "key", None) as client:
        with pytest.raises(UpstreamError) as failed:
            gather(here.runtime.engine, client, time.monotonic() + 60)
        # Its frames live on in reference cycles until the next search for garbage.
        kept = [entry.frame.f_locals["wanted"] for entry in failed.traceback if "wanted" in entry.frame.f_locals]
        assert kept
        assert not any(kept)


def test_questions_for_details_are_not_put_to_the_list(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    for model in here.create(6, status="active", photoCount=80):
        here.vendor.control("POST", "/events", {"event": "model.photos_ready", "modelId": model["id"]})
    here.apply_webhooks()
    ask_now(here)
    assert (here.request_counts(LIST).total(), here.request_counts(SINGLE)) == (0, {200: 6})
    assert here.differences((*LISTED, *DETAILS)) == []


def test_a_redelivered_event_costs_no_request_and_writes_nothing(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="active", createdAt=LONG_AGO)
    here.pull()
    event = {"event": "model.favorite_selected", "modelId": model["id"], "id": "evt_1"}
    event["createdAt"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    here.vendor.control("POST", "/events", event)
    here.apply_webhooks()
    ask_now(here)
    assert here.request_counts(SINGLE) == {200: 1}
    before = here.versions()
    here.forget_requests()
    for _ in range(3):
        here.vendor.control("POST", "/events", event)
        here.apply_webhooks()
    assert here.refetch_requests() == {}
    ask_now(here)
    assert here.request_counts(SINGLE).total() == 0
    assert here.versions() == before
    (row,) = here.sql("select deliveries from headshotpro.webhook_events")
    assert row["deliveries"] == 4


# --- details


def read_details(here: Mirror) -> int:
    """A slice of the detail sweep: how many models it read."""
    return sweep(here.runtime.engine, here.runtime.client, 5)


def read_so_far(here: Mirror) -> set[str]:
    """Models whose details a single GET has shown."""
    return {row["model_id"] for row in here.sql("select * from headshotpro.model_clocks where detail_at is not null")}


def a_minute_later(here: Mirror) -> None:
    """Everybody has the whole budget again."""
    keys = list(here.runtime.redis.scan_iter("headshotpro:budget:*"))
    here.runtime.redis.delete(*keys)


def test_sweep_reads_active_models_first_within_its_budget(mirror: StartMirror) -> None:
    # 5 % of 80 % of 100 requests a minute are four.
    here = mirror(models=0, rate=100, settings={"rate_budget": 0.8, "detail_budget": 0.05})
    under_way = ids_of(here.create(3, status="pending"))
    active = ids_of(here.create(3, status="active"))
    here.pull()
    assert read_details(here) == 4
    assert here.request_counts(SINGLE) == {200: 4}
    assert active < read_so_far(here)
    assert read_details(here) == 0
    assert here.request_counts(SINGLE) == {200: 4}
    a_minute_later(here)
    assert read_details(here) == 2
    assert read_so_far(here) == active | under_way
    assert here.differences(DETAILS) == []


def test_the_sweep_goes_on_with_whom_it_has_not_read_for_longest(mirror: StartMirror) -> None:
    here = mirror(models=0, rate=100, settings={"detail_budget": 0.01})
    here.create(3, status="active")
    here.pull()
    rounds: list[list[str]] = []
    for _ in range(2):
        rounds.append([])
        for _ in range(3):
            here.advance_vendor_clock(5)
            a_minute_later(here)
            assert read_details(here) == 1
            newest = here.sql(
                "select model_id from headshotpro.model_clocks order by detail_at desc nulls last limit 1"
            )
            rounds[-1].append(newest[0]["model_id"])
        here.advance_vendor_clock(5)
        here.pull()
    assert len(set(rounds[0])) == 3
    assert rounds[0] == rounds[1]


def test_lost_favourite_webhook_is_repaired_by_pull_and_sweep(mirror: StartMirror) -> None:
    here = mirror(models=0)
    (model,) = here.create(status="active")
    here.pull()
    assert read_details(here) == 1
    here.change(model["id"], favoritePhotoId="5" * 24, photoCount=120)
    # A model that was read since the last pull began is not read again.
    assert read_details(here) == 0
    here.advance_vendor_clock()
    here.pull()
    assert len(here.differences(DETAILS)) == 1
    assert read_details(here) == 1
    assert here.differences(DETAILS) == []
    assert here.request_counts(SINGLE) == {200: 2}


def test_a_detail_budget_of_0_turns_the_sweep_off(mirror: StartMirror) -> None:
    here = mirror(models=10, settings={"detail_budget": 0.0})
    here.pull()
    (line,) = [entry for entry in SCHEDULE if entry.job is Job.SWEEP]
    assert not line.due(here.runtime)
    assert read_details(here) == 0
    assert here.request_counts(SINGLE).total() == 0


def test_sweep_starts_after_first_full_pull_and_stops_when_done(mirror: StartMirror) -> None:
    here = mirror(models=10)
    (line,) = [entry for entry in SCHEDULE if entry.job is Job.SWEEP]
    assert not line.due(here.runtime)
    here.pull()
    assert line.due(here.runtime)
    # By the whole seconds of `Date`, the pull may seem to have begun after the answers to the sweep.
    here.sql("update headshotpro.pulls set upstream_started_at = upstream_started_at + interval '2 s'")
    jobs.install(here.runtime)
    jobs.sweep()
    assert here.request_counts(SINGLE) == {200: 10}
    assert not line.due(here.runtime)


def test_404_in_sweep_deletes_nothing_and_requests_a_refetch(mirror: StartMirror) -> None:
    here = mirror(models=0)
    gone, stays = here.create(2, status="active")
    here.pull()
    here.vanish(gone["id"])
    read_details(here)
    assert here.request_counts(SINGLE) == {200: 1, 404: 1}
    assert here.model(gone["id"])["status"] == "active"
    assert {model_id: request["reason"] for model_id, request in here.refetch_requests().items()} == {
        gone["id"]: "missing"
    }
    # It is asked once; the next pull decides.
    assert read_details(here) == 0
    here.advance_vendor_clock()
    assert here.pull()["tombstoned"] == 1
    assert here.model(stays["id"])["status"] == "active"


def test_sweep_reads_other_models_when_upstream_fails_for_one(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.create(3, status="active")
    here.pull()
    broken = http(500, {"success": False, "error": "Internal server error", "code": "INTERNAL_SERVER_ERROR"})

    def shown(connection: socket.socket) -> None:
        model_id = odd.requests[-1].split()[1].rpartition("/")[2]
        connection.sendall(http(200, {"success": True, "model": {"id": model_id, "photoCount": 7}}))
        connection.close()

    with odd_vendor(broken, shown) as odd, UpstreamClient(odd.url, "key", None) as client:
        assert sweep(here.runtime.engine, client, 5) == 2
        assert len(odd.requests) == 3
    counts = here.sql("select photo_count from headshotpro.models order by photo_count")
    assert [row["photo_count"] for row in counts] == [7, 7, None]


# --- deliveries that come too late


def test_stale_delivery_refetches_its_model_once_a_minute(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="pending", createdAt=LONG_AGO)
    here.pull()
    here.change(model["id"], status="active", photoCount=40)

    def deliver_late() -> None:
        """The vendor's third try, signed when the first one was."""
        refused = here.vendor.control("GET", "/deliveries")["refused"]
        order = {"event": "model.photos_ready", "modelId": model["id"], "timestamp": int(time.time()) - 1200}
        here.vendor.control("POST", "/events", order)
        assert eventually(lambda: here.vendor.control("GET", "/deliveries")["refused"] > refused)

    jobs.install(here.runtime)
    deliver_late()
    deliver_late()
    jobs.refetch()
    assert {model_id: request["reason"] for model_id, request in here.refetch_requests().items()} == {
        model["id"]: "stale_delivery"
    }
    ask_now(here)
    assert here.differences((*LISTED, *DETAILS)) == []
    assert here.request_counts(SINGLE) == {200: 1}
    # A request after the end is no event.
    assert here.sql("select * from headshotpro.webhook_events") == []
    # Another one within the minute raises no question; one after it does.
    deliver_late()
    jobs.refetch()
    assert here.refetch_requests() == {}
    flags = list(here.runtime.redis.scan_iter("headshotpro:stale_models:*"))
    assert 0 < here.runtime.redis.ttl(flags[0]) <= 60
    here.runtime.redis.delete(*flags)
    deliver_late()
    jobs.refetch()
    assert here.refetch_requests().keys() == {model["id"]}
