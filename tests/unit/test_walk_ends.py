"""The walk over a list always ends: with lists that never end, ignore offset, or whose pages never join."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.mirror.walk import (
    CAREFUL_OVERLAP,
    MAX_STEPS_BACK,
    MAX_WALKS,
    OVERLAP,
    Walk,
    WalkPage,
    failure_reason,
    follow,
    proves_complete,
    step_on,
)
from tests.support.drifting_list import NOON, Vendor, names, pull, vendor_of


def test_models_seen_before_a_step_back_are_new_again() -> None:
    ids, seen = names(400), set[str]()
    page = WalkPage(ids[:200], [NOON] * 200, 400, full=True, has_more=True, sent_at=NOON)
    walk = follow(Walk(), page, seen)
    walk = follow(walk, page._replace(ids=ids[200:]), seen)
    assert (walk.offset, walk.back, seen) == (90, CAREFUL_OVERLAP, set())
    # Page after page shows known models, each further on than the one before.
    for first in (90, 120, 150):
        walk = follow(walk, page._replace(ids=ids[first : first + 200]), seen)
    assert (walk.stalled, walk.ended) == (0, False)


def test_walk_that_stalls_in_a_moving_list_is_no_proof() -> None:
    # It saw 125 models, but some were deleted since: of the 120 that are left it may have seen only the first hundred.
    walk = Walk(total=130, newest_total=120, total_moved=True, size=100, offset=270, stalled=2, ended=True)
    assert failure_reason(walk, 125) is None
    assert not proves_complete(walk, 125)


@pytest.mark.parametrize(("offset", "proved"), [(119, False), (120, True)])
def test_walk_that_stalls_ahead_of_the_total_is_no_proof(offset: int, proved: bool) -> None:
    walk = Walk(total=120, newest_total=120, size=20, offset=offset, stalled=2, ended=True)
    assert proves_complete(walk, 150) == proved


class Liar(Vendor):
    """A vendor whose pages end before it says so: it counts models that it does not show."""

    def page(self, offset: int) -> WalkPage:
        return super().page(offset)._replace(has_more=True, total=10_000)


@pytest.mark.parametrize("count", [0, 1, 199, 200, 400, 1_000])
def test_a_list_that_never_ends_is_given_up(count: int) -> None:
    ids = names(count)
    vendor = Liar(ids, born=dict.fromkeys(ids, NOON))
    pulled = pull(vendor)
    assert not pulled.proved
    assert pulled.met == set(ids)
    assert vendor.requests <= MAX_WALKS * (MAX_STEPS_BACK + 1) * 20


def test_pages_that_never_join_are_given_up() -> None:
    rounds = iter(range(10**6))

    def replace_all(vendor: Vendor) -> None:
        first = next(rounds) * 1_000
        vendor.ids = [f"m{first + number:06}" for number in range(1_000)]
        vendor.born = dict.fromkeys(vendor.ids, NOON)

    vendor = vendor_of(names(1_000), change=replace_all)
    assert not pull(vendor).proved
    assert vendor.requests <= MAX_WALKS * (MAX_STEPS_BACK * 2 + 2)


def test_a_short_page_that_is_not_the_last_is_gone_on_from() -> None:
    page = WalkPage(names(50), [NOON] * 50, 1_000, full=False, has_more=True, sent_at=NOON)
    walk = step_on(Walk(), page, 50)
    assert not walk.ended
    assert walk.offset == 50 - OVERLAP


class Deaf(Vendor):
    """A vendor that answers with the list's start, whatever offset is asked for."""

    def page(self, offset: int) -> WalkPage:
        return super().page(0)._replace(has_more=True)


class Clamping(Vendor):
    """A vendor that takes an offset past a point for that point."""

    def page(self, offset: int) -> WalkPage:
        return super().page(min(offset, 400))._replace(has_more=True)


class Wrapping(Vendor):
    """A vendor that begins anew behind the list's end."""

    def page(self, offset: int) -> WalkPage:
        return super().page(offset % len(self.ids))._replace(has_more=True)


@pytest.mark.parametrize(("kind", "requests"), [(Deaf, 3), (Clamping, 6)])
def test_ignored_offset_is_told_after_two_pages_without_news(kind: type[Vendor], requests: int) -> None:
    ids = names(1_000)
    vendor = kind(ids, born=dict.fromkeys(ids, NOON))
    pulled = pull(vendor)
    assert pulled.failure_reason is not None
    assert pulled.failure_reason.startswith("the upstream ignores offset")
    assert vendor.requests == requests


def test_ignored_offset_is_no_trouble_where_everybody_was_met() -> None:
    ids = names(200)
    vendor = Deaf(ids, born=dict.fromkeys(ids, NOON))
    pulled = pull(vendor)
    assert (pulled.proved, pulled.failure_reason, vendor.requests) == (True, None, 3)


def test_list_that_begins_anew_behind_its_end_is_read_whole() -> None:
    ids = names(1_000)
    vendor = Wrapping(ids, born={model_id: NOON + timedelta(seconds=int(model_id[1:])) for model_id in ids})
    pulled = pull(vendor)
    assert pulled.met == set(ids)
    assert pulled.proved
    # The models behind the end are out of order, so a second walk has to prove it.
    assert vendor.requests == 22
