"""The merge: whatever order the world arrives in, the same is known in the end, and where it may be wrong it is asked.

The faults that mirrors of this kind have, one by one; `test_merge_laws` has the specification as properties.
"""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.mirror.merge import DELETED, FIELDS, NOTHING_KNOWN, Observation, merge, visible
from tests.support.histories import MODEL_ID, in_batches, merge_all, ms, refetch_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def event(at: int, status: str, **fields: Any) -> Observation:
    """A webhook with a time of its own."""
    deletion_evidence_at = ms(at) if status == DELETED else None
    return Observation(
        MODEL_ID, ms(at), ms(at), {"status": status, **fields}, deletion_evidence_at=deletion_evidence_at
    )


def bare(status: str, earliest: int, latest: int) -> Observation:
    """A webhook without a time of its own."""
    return Observation(MODEL_ID, ms(earliest), ms(latest), {"status": status})


def row(sent: int, answered: int, status: str, **fields: Any) -> Observation:
    """A row of a list page."""
    return Observation(MODEL_ID, ms(sent), ms(answered), {"status": status, "email": "ann@example.com", **fields})


def get(sent: int, answered: int, status: str, **fields: Any) -> Observation:
    """A single GET that showed it alive."""
    seen = row(sent, answered, status, photo_count=40, **fields)
    return replace(seen, alive=True)


def absence(at: int) -> Observation:
    """A 404 that counts."""
    return Observation(MODEL_ID, ms(at), ms(at), {}, deletion_evidence_at=ms(at))


def status_after(seen: Iterable[Observation]) -> Any:
    return visible(merge_all(seen))["status"]


def both_ways(*seen: Observation) -> list[Sequence[Observation]]:
    """Every order of arrival."""
    return list(permutations(seen))


# --- the faults of others


def test_the_second_of_two_events_of_one_second_counts() -> None:
    for order in both_ways(event(200, "waiting"), event(700, "pending")):
        assert status_after(order) == "pending"
        assert refetch_times(order) == []


def test_two_events_of_one_millisecond_both_count() -> None:
    # Of different fields both are kept; of the same field progress decides, and a GET is asked for.
    for order in both_ways(event(1, "active", title="Ann"), event(1, "generatingHeadshots", title="Ann", trigger="f")):
        known = visible(merge_all(order))
        assert (known["status"], known["title"], known["trigger"]) == ("active", "Ann", "f")
        assert refetch_times(order) == [ms(1)]


def test_agreeing_events_of_one_millisecond_need_no_refetch() -> None:
    for order in both_ways(event(1, "active", title="Ann"), event(1, "active", trigger="f")):
        assert visible(merge_all(order)).items() >= {"status": "active", "title": "Ann", "trigger": "f"}.items()
        assert refetch_times(order) == []


@pytest.mark.parametrize("late", [event(1, "active"), row(1, 3, "active"), bare("active", 0, 3)])
def test_a_late_older_update_revives_no_deleted_row(late: Observation) -> None:
    for order in both_ways(event(5, DELETED), late):
        assert status_after(order) == DELETED
        assert refetch_times(order) == []


def test_page_read_before_a_webhook_never_overwrites_it() -> None:
    page, webhook = row(1, 3, "waiting"), event(4, "pending")
    for order in both_ways(page, webhook):
        assert status_after(order) == "pending"
        assert refetch_times(order) == []


def test_page_read_during_a_webhook_requests_a_refetch() -> None:
    # It is unknown which is younger: the page may have been read before the change or after the next.
    page, webhook = row(1, 6, "waiting"), event(4, "pending")
    for order in both_ways(page, webhook):
        assert status_after(order) == "pending"
        assert refetch_times(order) == [ms(6)]
        for truth in ("waiting", "pending", "failed"):
            assert status_after([*order, get(7, 9, truth)]) == truth


def test_one_model_on_two_pages_is_one_model() -> None:
    # Drift shows it twice: alike, or changed in between. The younger page counts, in one batch and in two.
    one, other = row(1, 2, "waiting"), row(4, 5, "pending")
    for batches in ([[one, one]], [[one], [one]]):
        assert in_batches(batches) == merge_all([one])
    for batches in ([[one, other]], [[other, one]], [[one], [other]], [[other], [one]]):
        assert visible(in_batches(batches))["status"] == "pending"


# --- what broke the first version of the rules


def test_what_only_confirms_moves_the_time() -> None:
    # failed, pending, failed: the one in the middle comes last, and must not stay.
    failed, pending, failed_again = event(1, "failed"), event(2, "pending"), event(3, "failed")
    for order in both_ways(failed, pending, failed_again):
        assert status_after(order) == "failed"
    assert not merge(merge_all([failed, failed_again]), pending).contributed


def test_no_pull_shuts_out_the_event_that_corrects_it() -> None:
    # The page was read from a replica that could not see the change yet.
    page, webhook = row(1, 4, "waiting"), event(2, "pending")
    for order in both_ways(page, webhook):
        assert status_after(order) == "pending"


# --- life and death


@pytest.mark.parametrize("life", [row(7, 9, "active"), event(7, "active"), bare("active", 1, 7)])
def test_live_observation_keeps_tombstone_and_requests_refetch(life: Observation) -> None:
    for death in (absence(5), event(5, DELETED), replace(row(5, 6, DELETED), deletion_evidence_at=ms(5))):
        for order in both_ways(death, life):
            assert status_after(order) == DELETED
            # The refetch has to be younger than both.
            assert max(refetch_times(order)) >= max(life.until, ms(7))


def test_only_a_younger_get_lifts_a_death() -> None:
    for order in both_ways(absence(5), get(6, 8, "active")):
        assert status_after(order) == "active"
        assert visible(merge_all(order))["deleted_at"] is None
    for order in both_ways(absence(5), get(5, 8, "active")):
        assert status_after(order) == DELETED
        assert max(refetch_times(order)) == ms(8)


def test_a_death_after_a_lifted_one_is_not_dated_back_to_it() -> None:
    for order in both_ways(absence(1), get(3, 4, "active"), absence(6)):
        assert visible(merge_all(order))["deleted_at"] == ms(3)
    for order in both_ways(absence(1), get(3, 4, "active"), replace(event(6, DELETED), deleted_at=ms(6))):
        assert visible(merge_all(order))["deleted_at"] == ms(6)


def test_more_evidence_does_not_move_the_time_of_a_death() -> None:
    for order in both_ways(absence(3), absence(5), event(9, DELETED)):
        assert visible(merge_all(order))["deleted_at"] == ms(3)


def test_details_of_the_dead_are_not_asked_for() -> None:
    photos_ready = replace(event(1, "active"), needs_refetch=True)
    assert refetch_times([photos_ready]) == [ms(1)]
    assert refetch_times([event(5, DELETED), photos_ready]) == []


# --- times


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_an_event_without_a_time_settles_nothing(status: str) -> None:
    # It is as old as its model at least, so it loses to what has a time; where it may be younger a GET decides.
    for order in both_ways(event(3, "pending"), bare(status, 1, 5)):
        assert status_after(order) == "pending"
        assert refetch_times(order) == ([] if status == "pending" else [ms(5)])
    for order in both_ways(event(7, "pending"), bare(status, 1, 5)):
        assert refetch_times(order) == []


def test_an_absent_field_is_no_information_and_null_is_a_value() -> None:
    first, second = event(1, "active", title="Ann", finished_at=ms(0)), event(2, "active", finished_at=None)
    for order in both_ways(first, second):
        known = visible(merge_all(order))
        assert (known["title"], known["finished_at"]) == ("Ann", None)


def test_progress_is_the_order_of_the_vendor() -> None:
    names = ["paused", "onboarding", "waiting", "failed", "pending", "generatingHeadshots", "active", DELETED]
    for lower, higher in pairwise(names):
        for order in both_ways(event(1, lower), event(1, higher)):
            assert status_after(order) == higher


def test_nothing_is_known_of_nothing() -> None:
    assert set(visible(NOTHING_KNOWN)) == {*FIELDS, "deleted_at"}
    assert set(visible(NOTHING_KNOWN).values()) == {None}
