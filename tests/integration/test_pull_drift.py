"""Pulls of a list that changes while it is read, from a vendor that is slow, throttles, fails, and breaks off."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from service.mirror.pull_slice import HOT, MAX_FAILURES
from tests.support.processes import TEST_TIMEOUT_SECONDS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.mirror import Mirror, StartMirror

ORDERS = ["newest", "oldest"]


# --- models come and go between two requests


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("deleted", ["hidden", "listed"])
def test_whoever_was_there_throughout_is_in_the_mirror(mirror: StartMirror, order: str, deleted: str) -> None:
    # One to three births, deletions and silent disappearances before each list request.
    here = mirror(models=640, drift=1, order=order, deleted=deleted)
    for forget in (True, True, False):
        before = here.live_ids()
        pull = here.pull()
        assert pull["status"] == "complete"
        assert here.differences(ids=before & here.live_ids()) == []
        here.advance_vendor_clock()
        # Only a mirror that knows no model yet can miss one.
        if forget:
            here.sql("truncate headshotpro.models, headshotpro.model_clocks, headshotpro.refetch_requests")


@pytest.mark.parametrize("order", ORDERS)
def test_a_gap_that_many_disappearances_tear_is_read_again(mirror: StartMirror, order: str) -> None:
    # Thirty models vanish in front of the walk after its first page: what follows moves past its next offset.
    here = mirror(models=450, order=order)
    listed = [model["id"] for model in here.vendor.walk(200)]
    here.forget_requests()
    pages = count(1)

    def vanish() -> None:
        if next(pages) == 1:
            here.vanish(*listed[20:50])

    pull = here.pull(between=vanish)
    assert pull["status"] == "complete"
    # The thirty were in its first page, so this pull does not miss them; the next one does.
    assert pull["tombstoned"] == 0
    assert here.differences(ids=here.live_ids()) == []
    # One page did not join what was read before it, and the walk stepped back.
    assert here.request_counts() == {200: pull["pages"]}
    assert pull["pages"] > 3


def test_models_that_are_met_twice_break_nothing(mirror: StartMirror) -> None:
    # The list shows the newest first, so births push what was read into the next page.
    here = mirror(models=450)
    before = here.live_ids()
    pull = here.pull(between=lambda: here.create(15))
    assert pull["status"] == "complete"
    assert here.differences(ids=before) == []
    rows, history = here.sql(
        "select count(*) from headshotpro.models union all select count(*) from headshotpro.model_changes"
    )
    assert rows["count"] == history["count"] == pull["models_seen"] == pull["inserted"]


def test_a_swap_that_the_total_does_not_tell_hides_nobody(mirror: StartMirror) -> None:
    # One leaves the head, one joins the tail: the total is constant and every offset moves by one.
    here = mirror(models=450, order="oldest")
    before = here.live_ids()
    leaving: Iterator[str] = iter([model["id"] for model in here.vendor.walk(200)])

    def swap() -> None:
        here.vanish(next(leaving))
        here.create()

    assert here.pull(between=swap)["status"] == "complete"
    assert here.differences(ids=before & here.live_ids()) == []


# --- what was read before a webhook and comes after it


def test_page_read_before_a_webhook_does_not_overwrite_it(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.enable_webhooks()
    (model,) = here.create(status="onboarding")
    here.pull()
    # The vendor delays an answer either before it reads its data or after that: only the latter makes the race.
    # One in two does.
    assert any(_race(here, model["id"]) for _ in range(30))


def _race(here: Mirror, model_id: str) -> bool:
    """Change a model while a page that shows it is in flight; whether that page still has the old status."""
    here.change(model_id, status="onboarding", events=True)
    here.apply_webhooks()
    here.advance_vendor_clock()
    here.sql("delete from headshotpro.refetch_requests")
    applied = threading.Event()
    looks: list[tuple[bool, str, bool]] = []

    def look() -> None:
        looks.append((applied.is_set(), here.model(model_id)["status"], model_id in here.refetch_requests()))

    # The first request of a hot pull is for those in onboarding; while it is answered, the change's webhook comes.
    here.set_switches(slow=2)
    pull = threading.Thread(target=lambda: here.pull(HOT, between=look))
    pull.start()
    assert eventually(lambda: here.sql("select pull_id from headshotpro.pull_checkpoints"))
    time.sleep(0.1)
    here.change(model_id, status="waiting", events=True)
    here.apply_webhooks()
    applied.set()
    here.set_switches(slow=0)
    pull.join(TEST_TIMEOUT_SECONDS)
    in_time, status, disputed = looks[0]
    assert status == "waiting" or not in_time
    return in_time and disputed


# --- a vendor that throttles


@pytest.mark.parametrize("seconds", [30.0, 0.5])
def test_a_throttled_pull_waits_and_completes(mirror: StartMirror, seconds: float) -> None:
    # In one go, or in slices that are shorter than the wait: then the pull rests, and no process continues it early.
    here = mirror(models=450, rate=20, rate_window=3, settings={"rate_budget": 1.0})
    pages = count(1)

    def spend() -> None:
        """Another client of the organization spends what is left, behind our back."""
        if next(pages) == 2:
            while here.vendor.api("GET", "/organization").status != 429:
                pass

    pull = here.pull(between=spend, seconds=seconds)
    assert (pull["status"], pull["error"]) == ("complete", None)
    assert here.request_counts()[200] == pull["pages"] == 3
    assert here.request_counts()[429] >= 1
    assert here.differences() == []


# --- a vendor that fails


def test_pull_survives_500s_broken_json_and_lost_connections(mirror: StartMirror) -> None:
    here = mirror(models=450, errors=0.3)
    for _ in range(3):
        pull = here.pull()
        assert (pull["status"], pull["error"], pull["pages"]) == ("complete", None, 3)
        assert here.differences() == []
        here.advance_vendor_clock()
    # Three pages each, and some of them again.
    assert here.request_counts().total() > 9


def test_pull_fails_with_the_error_of_an_unavailable_upstream(mirror: StartMirror) -> None:
    here = mirror(models=300)
    here.read_pages(1)
    before = here.versions()
    here.set_switches(errors=1)
    failures = 0
    while (row := here.sql("select * from headshotpro.pulls")[0])["status"] == "running":
        assert failures < 2 * MAX_FAILURES
        failures += here.slice(seconds=0.5) is not None
        # It rests for a while after each failure; the test does not.
        here.expire_leases()
    assert failures >= MAX_FAILURES
    assert row["status"] == "failed"
    assert "GET /organization/models" in row["error"]
    assert row["finished_at"] is not None
    assert here.versions() == before

    here.set_switches(errors=0)
    assert here.pull()["status"] == "complete"
    assert here.differences() == []
