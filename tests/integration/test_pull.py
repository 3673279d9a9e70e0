"""Pulls against the sandbox: what they cost, what they write, what they bury, and what a hot one looks at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from service.mirror.pull import HOT_STATUSES
from service.mirror.pull_slice import HOT
from tests.support.mirror import LIST, SINGLE

if TYPE_CHECKING:
    from tests.support.mirror import Mirror, StartMirror


def counted(row: dict[str, Any]) -> tuple[str, int, int, int]:
    """The result of a pull: status, models that were new, changed and found deleted."""
    return row["status"], row["inserted"], row["changed"], row["tombstoned"]


# --- the cost


def test_pull_of_10000_takes_54_requests_and_repeat_writes_none(mirror: StartMirror) -> None:
    here = mirror(models=10_000)
    alive = len(here.live_ids())
    first = here.pull()
    assert counted(first) == ("complete", alive, 0, 0)
    assert here.request_counts(LIST).total() <= 54
    assert here.differences() == []

    before = here.versions()
    here.forget_requests()
    here.advance_vendor_clock()
    second = here.pull()
    assert counted(second) == ("complete", 0, 0, 0)
    assert second["models_seen"] == alive
    assert here.request_counts(LIST).total() <= 54
    assert here.versions() == before
    # The row's own count is the sandbox's; one more request asked whose key it is.
    assert second["requests"] == here.request_counts(LIST).total() + 1


@pytest.mark.parametrize(("order", "deleted"), [("newest", "listed"), ("oldest", "hidden"), ("oldest", "listed")])
def test_a_second_pull_writes_nothing_in_any_order_of_the_list(mirror: StartMirror, order: str, deleted: str) -> None:
    here = mirror(models=450, order=order, deleted=deleted)
    here.create(8, status="deleted")
    first = here.pull()
    shown = len(here.truth()) if deleted == "listed" else len(here.live_ids())
    assert (first["status"], first["models_seen"], first["inserted"]) == ("complete", shown, shown)
    assert here.differences() == []
    assert len(here.sql("select id from headshotpro.models where status = 'deleted'")) == shown - 450

    before = here.versions()
    here.advance_vendor_clock()
    here.forget_requests()
    assert counted(here.pull()) == ("complete", 0, 0, 0)
    assert here.versions() == before
    assert here.request_counts(LIST) == {200: 3}
    assert here.request_counts(SINGLE).total() == 0


def test_responses_that_overlap_in_time_cost_no_second_walk(mirror: StartMirror) -> None:
    # The header `Date` has whole seconds: of two pages of one second the later looks older if it took longer.
    here = mirror(models=640)
    time.sleep(1.1 - time.time() % 1)
    assert counted(here.pull(between=lambda: here.set_switches(slow=0.4)))[0] == "complete"
    assert here.request_counts(LIST) == {200: 4}
    assert here.request_counts(SINGLE).total() == 0


# --- deletion by evidence


def test_vanished_model_is_deleted_by_one_404_after_a_walk(mirror: StartMirror) -> None:
    here = mirror(models=0)
    gone, stays = here.create(2, status="active")
    here.pull()
    here.vanish(gone["id"])
    here.advance_vendor_clock()
    here.forget_requests()
    pull = here.pull()
    assert counted(pull) == ("complete", 0, 0, 1)
    assert here.request_counts(SINGLE) == {404: 1}
    row = here.model(gone["id"])
    assert (row["status"], row["email"]) == ("deleted", gone["email"])
    assert row["deleted_at"] is not None
    change = here.changes(gone["id"])[-1]
    evidence = {"source": "pull", "pull_id": pull["id"], "from_status": "active", "to_status": "deleted"}
    assert {name: change[name] for name in evidence} == evidence
    assert here.model(stays["id"])["status"] == "active"


def test_a_suspect_that_a_get_shows_alive_lives_on(mirror: StartMirror) -> None:
    here = mirror(models=210, order="oldest")
    late: list[dict[str, Any]] = []

    def appear() -> None:
        """Behind the walk: a model with an old creation time, whose webhook arrives before the pull ends."""
        if not late:
            late.extend(here.create(createdAt="2019-01-01T00:00:00.000Z", status="active", events=True))
            here.apply_webhooks()

    here.enable_webhooks()
    here.pull(between=appear)
    assert here.request_counts(SINGLE) == {200: 1}
    assert here.differences() == []
    assert here.model(late[0]["id"])["status"] == "active"


@pytest.mark.parametrize("vanished", [10, 11])
def test_too_many_suspects_are_left_to_a_person(mirror: StartMirror, vanished: int) -> None:
    # Ten are decided whatever their share is; one more than that is held.
    here = mirror(models=0)
    models = here.create(15, status="active")
    here.pull()
    here.vanish(*(model["id"] for model in models[:vanished]))
    here.advance_vendor_clock()
    here.forget_requests()
    before = here.versions()
    pull = here.pull()
    if vanished == 10:
        assert counted(pull) == ("complete", 0, 0, 10)
        assert here.differences() == []
    else:
        assert counted(pull) == ("held", 0, 0, 0)
        assert "11 of 15" in pull["error"]
        assert here.request_counts(SINGLE).total() == 0
        assert here.versions() == before


def test_tombstone_limit_is_a_share_of_the_live_models(mirror: StartMirror) -> None:
    here = mirror(models=0, settings={"tombstone_limit": 0.5})
    models = here.create(40, status="active")
    here.pull()
    here.vanish(*(model["id"] for model in models[:20]))
    here.advance_vendor_clock()
    assert counted(here.pull()) == ("complete", 0, 0, 20)


def test_key_of_another_organization_holds_pull_before_reading(mirror: StartMirror) -> None:
    here = mirror(models=20)
    here.pull()
    before = here.versions()
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    here.forget_requests()
    pull = here.pull()
    assert pull["status"] == "held"
    assert "org_of_somebody_else" in pull["error"]
    assert here.request_counts(LIST).total() == 0
    assert here.versions() == before


def test_refused_key_fails_the_pull_and_writes_nothing(mirror: StartMirror) -> None:
    here = mirror(models=20, settings={"headshotpro_api_key": "revoked"})
    pull = here.pull()
    assert (pull["status"], pull["error"]) == ("failed", "the upstream refused: 401 UNAUTHORIZED")
    assert here.versions() == [{"count": 0}]


# --- hot pulls


def test_a_hot_pull_reads_only_the_statuses_that_still_change(mirror: StartMirror) -> None:
    here = mirror(models=0)
    made = {status: here.create(3, status=status) for status in (*HOT_STATUSES, "active")}
    here.pull()
    for models in made.values():
        here.change(models[0]["id"], title="Renamed")
    here.advance_vendor_clock()
    here.forget_requests()
    pull = here.pull(HOT)
    assert counted(pull) == ("complete", 0, 5, 0)
    assert (pull["requests"], pull["pages"], pull["models_seen"]) == (5, 5, 15)
    assert here.request_counts(LIST) == {200: 5}
    assert here.model(made["failed"][0]["id"])["title"] == "Renamed"
    assert here.model(made["active"][0]["id"])["title"] != "Renamed"
    assert here.refetch_requests() == {}


def test_model_missing_from_hot_lists_is_refetched(mirror: StartMirror) -> None:
    here = mirror(models=0)
    finished, vanished = here.create(2, status="generatingHeadshots")
    here.pull()
    here.change(finished["id"], status="active", photoCount=40)
    here.vanish(vanished["id"])
    here.advance_vendor_clock()
    assert here.pull(HOT)["status"] == "complete"
    assert {request["reason"] for request in here.refetch_requests().values()} == {"left_hot"}
    assert _seconds_until_due(here) < 5
    here.forget_requests()
    here.make_refetches_due()
    here.advance_vendor_clock()
    here.refetch()
    assert here.request_counts(SINGLE) == {200: 1, 404: 1}
    row = here.model(finished["id"])
    assert (row["status"], row["photo_count"]) == ("active", 40)
    # The 404 waits for the full pull, which has not looked yet.
    assert here.refetch_requests().keys() == {vanished["id"]}
    assert here.model(vanished["id"])["status"] == "generatingHeadshots"


def _seconds_until_due(here: Mirror) -> float:
    (row,) = here.sql(
        "select extract(epoch from max(due_at) - now())::float as seconds from headshotpro.refetch_requests"
    )
    return float(row["seconds"])
