"""The walk over a list that changes while it is read: what it proves is true, and it always ends."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.mirror.walk import (
    CAREFUL_OVERLAP,
    OVERLAP,
    PAGE_SIZE,
    TAIL,
    Walk,
    WalkPage,
    accepts,
    next_walk,
    proves_complete,
    step_back,
    step_on,
)
from tests.support.drifting_list import NOON, Churn, Vendor, names, pull, vendor_of
from tests.support.histories import patient

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (0, 1, 9, 10, 11, 189, 190, 191, 199, 200, 201, 390, 400, 401, 777)


# --- what is proved is true


@patient
@given(
    st.sampled_from(("newest", "oldest", "title")),
    st.sampled_from(SIZES),
    st.sampled_from((PAGE_SIZE, 100, 20)),
    st.integers(0, 10**6),
)
@example("oldest", 390, 100, 0)
# After a step back, models that were created ahead of the walk push known ones on to pages further on.
@example("newest", 189, 20, 73)
@example("newest", 199, 20, 629)
@example("newest", 201, 20, 2854)
@example("newest", 777, 20, 67)
# The same, and by then it has seen more models than are left.
@example("newest", 390, 20, 124)
# Fifteen models are created ahead of it between two requests, three times in a row: it goes on by ten.
@example("newest", 777, 20, 195)
def test_proved_walk_has_seen_every_model_that_stayed(order: str, count: int, limit: int, seed: int) -> None:
    churn = Churn(seed, order)
    vendor = vendor_of(churn.start(count), limit=limit, change=churn)
    pulled = pull(vendor)
    if pulled.proved:
        assert vendor.stayed <= pulled.met
    # No list that is read in the documented way is taken for one that ignores offset, unless it grows as fast as the
    # walk goes on, by half of a page or more. Then pages further on do show known models alone, and the total does not
    # report the growth where as many models are deleted meanwhile.
    if pulled.failure_reason:
        assert vendor.kept_up_with(limit // 2)
    # In the order of creation no second walk without a new id is needed, so a busy list cannot make a pull fail.
    elif order != "title":
        assert pulled.proved


def shuffle(seed: int) -> Callable[[Vendor], None]:
    """Another order for each request."""
    rng = Random(seed)
    return lambda vendor: rng.shuffle(vendor.ids)


def jump(seed: int) -> Callable[[Vendor], None]:
    """Newest change first: whoever changes goes to the head of the list."""
    rng = Random(seed)

    def change(vendor: Vendor) -> None:
        for _ in range(rng.randint(0, 3)):
            vendor.ids.insert(0, vendor.ids.pop(rng.randrange(len(vendor.ids))))

    return change


@patient
@given(
    st.sampled_from((shuffle, jump)), st.sampled_from((11, 200, 201, 401, 777)), st.booleans(), st.integers(0, 10**6)
)
def test_a_proof_is_true_where_the_order_does_not_hold_still(
    disorder: Callable[[int], Callable[[Vendor], None]], count: int, same_birth: bool, seed: int
) -> None:
    # Models that were created in one moment say nothing of the order; there the count decides.
    vendor = vendor_of(names(count), change=disorder(seed))
    if same_birth:
        vendor.born = dict.fromkeys(vendor.born, NOON)
    pulled = pull(vendor)
    if pulled.proved:
        assert vendor.stayed <= pulled.met
    assert pulled.failure_reason is None


def test_list_in_another_order_takes_a_second_walk() -> None:
    churn = Churn(1, "title")
    churn.left = 0
    vendor = vendor_of(churn.start(777), change=churn)
    pulled = pull(vendor)
    assert pulled.proved
    assert (pulled.walk.number, pulled.walk.monotone, pulled.walk.new) == (2, False, 0)


def test_an_order_that_nobody_can_see_takes_a_second_walk() -> None:
    page = WalkPage(names(5), [], 5, full=False, has_more=False, sent_at=NOON)
    walk = step_on(Walk(), page, 5)
    assert not proves_complete(walk, 5)
    assert proves_complete(step_on(next_walk(walk), page, 0), 5)


def test_the_order_is_followed_from_page_to_page() -> None:
    # Each page alone says nothing: its models were created in one moment.
    walk = Walk()
    for number, born in enumerate((1, 3, 2)):
        ids = [f"m{number}", f"m{number + 1}"]
        page = WalkPage(ids, [NOON + timedelta(seconds=born)] * 2, 4, full=True, has_more=True, sent_at=NOON)
        assert walk.monotone
        walk = step_on(walk, page, 2)
    assert not walk.monotone


def test_a_second_walk_that_meets_somebody_new_is_no_proof() -> None:
    page = WalkPage(names(5), [], 5, full=False, has_more=False, sent_at=NOON)
    assert not proves_complete(step_on(next_walk(step_on(Walk(), page, 4)), page, 1), 5)


def test_a_count_that_moved_is_no_measure() -> None:
    # Fifty were deleted during the walk, behind it or ahead, so the number that it should have seen is unknown.
    ids = names(300)
    born = [NOON + timedelta(seconds=number) for number in range(300)]
    walk = step_on(Walk(), WalkPage(ids[:200], born[:200], 300, full=True, has_more=True, sent_at=NOON), 200)
    walk = step_on(walk, WalkPage(ids[190:250], born[190:250], 250, full=False, has_more=False, sent_at=NOON), 50)
    assert walk.ended
    assert proves_complete(walk, 250)


def test_fewer_models_than_the_list_counts_are_no_proof() -> None:
    walk = step_on(Walk(), WalkPage(names(5), [], 6, full=False, has_more=False, sent_at=NOON), 5)
    assert not proves_complete(walk, 5)
    assert not proves_complete(
        step_on(next_walk(walk), WalkPage(names(5), [], 6, full=False, has_more=False, sent_at=NOON), 0), 5
    )


# --- what it costs


@pytest.mark.parametrize("ids", [names(10_000), names(10_000)[::-1]], ids=["oldest", "newest"])
def test_10000_unchanging_models_take_at_most_54_requests(ids: list[str]) -> None:
    vendor = vendor_of(ids)
    assert pull(vendor).proved
    assert vendor.requests <= 54


def test_100000_models_take_at_most_1_06_requests_per_page() -> None:
    vendor = vendor_of(names(100_000))
    assert pull(vendor).proved
    assert vendor.requests <= 1.06 * 100_000 / PAGE_SIZE


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 1), (1, 1), (199, 1), (200, 2), (201, 2), (389, 2), (390, 3), (400, 3), (401, 3)]
)
def test_the_end_is_a_short_page(count: int, requests: int) -> None:
    # A full page may be the last one; only the page behind it shows that.
    vendor = vendor_of(names(count))
    pulled = pull(vendor)
    assert (pulled.proved, len(pulled.met), vendor.requests) == (True, count, requests)


@pytest.mark.parametrize("limit", [100, 50, 7, 2])
def test_a_vendor_that_clamps_the_page_is_read_to_the_end(limit: int) -> None:
    vendor = vendor_of(names(250), limit=limit)
    pulled = pull(vendor)
    assert pulled.proved
    assert len(pulled.met) == 250
    # At least half of a page is new.
    assert vendor.requests <= 250 / (limit // 2) + 1


def test_after_a_step_back_small_pages_still_go_on_by_half() -> None:
    walk = step_back(Walk(offset=500, tail=("gone",)))
    page = WalkPage(["gone", *names(99)], [NOON] * 100, 1_000, full=True, has_more=True, sent_at=NOON)
    assert step_on(walk, page, 0).offset == walk.offset + 50


# --- step back


def walked(count: int) -> tuple[Walk, list[str]]:
    """A walk that has read its first page."""
    ids = names(count)
    page = vendor_of(ids).page(0)
    return step_on(Walk(), page, len(page.ids)), ids


def test_the_next_page_reaches_into_the_last_one() -> None:
    walk, ids = walked(1_000)
    assert walk.offset == PAGE_SIZE - OVERLAP
    assert walk.tail == tuple(ids[PAGE_SIZE - TAIL : PAGE_SIZE])


@pytest.mark.parametrize("gone", [1, OVERLAP - 1])
def test_a_few_that_vanish_ahead_of_the_page_leave_no_gap(gone: int) -> None:
    walk, ids = walked(1_000)
    vendor = vendor_of(ids)
    del vendor.ids[:gone]
    assert accepts(walk, vendor.page(walk.offset))


@pytest.mark.parametrize("gone", [OVERLAP, 100, 190, 500])
def test_more_that_vanish_ahead_of_the_page_make_it_step_back(gone: int) -> None:
    walk, ids = walked(1_000)
    vendor = vendor_of(ids)
    del vendor.ids[:gone]
    page = vendor.page(walk.offset)
    assert not accepts(walk, page)
    # Further and further, to the start of the list at the latest, which always joins.
    offsets = []
    while not accepts(walk, page):
        walk = step_back(walk)
        offsets.append(walk.offset)
        page = vendor.page(walk.offset)
    assert offsets == {OVERLAP: [90], 100: [90], 190: [90, 0], 500: [90, 0]}[gone]
    assert walk.overlap == CAREFUL_OVERLAP


def test_each_step_back_is_twice_as_long() -> None:
    walk, offsets = Walk(offset=2_000, tail=("gone",)), []
    while walk.offset:
        walk = step_back(walk)
        offsets.append(walk.offset)
    assert offsets == [1_900, 1_700, 1_300, 500, 0]


def test_walk_whose_tail_is_deleted_steps_back_to_the_start() -> None:
    # All fifty of the tail are deleted: no id of the last page can appear again at any offset.
    walk, ids = walked(1_000)
    vendor = vendor_of([model_id for model_id in ids if model_id not in walk.tail])
    while not accepts(walk, page := vendor.page(walk.offset)):
        walk = step_back(walk)
    assert walk.offset == 0
    assert step_on(walk, page, 0).back == 0


def test_new_models_ahead_of_the_page_only_repeat_what_was_read() -> None:
    walk, ids = walked(1_000)
    vendor = vendor_of(["m001001", "m001002", *ids])
    assert accepts(walk, vendor.page(walk.offset))


def test_unreadable_records_count_once_towards_the_total() -> None:
    # The second page repeats the last ten places, and two unreadable records in them.
    ids, born = names(300), [NOON + timedelta(seconds=number) for number in range(300)]
    first = WalkPage(ids[:198], born[:198], 300, full=True, has_more=True, sent_at=NOON, unread=(195, 199))
    second = WalkPage(ids[190:297], born[190:297], 300, full=False, has_more=False, sent_at=NOON, unread=(5, 9, 50))
    walk = step_on(step_on(Walk(), first, 198), second, 99)
    assert (walk.ended, walk.unread) == (True, 3)
    assert proves_complete(walk, 297)
    assert not proves_complete(walk, 296)
