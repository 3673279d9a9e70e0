"""Walks over lists whose paging makes no sense: every one ends, soon, and says why."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service.errors import ListUnusable
from service.mirror.pull_slice import FULL, HOT, MAX_FAILURES
from service.mirror.walk import OVERLAP
from service.runtime import Runtime
from service.upstream import sending
from service.upstream.client import SHORTEST_PAGE
from tests.integration.test_verify import differences
from tests.support.list_vendor import ListVendor, model, models, paged
from tests.support.odd_vendor import RecordedPauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import StartOdd

# Twice the total and the slack take 27 and 32; six walks to the end of the list take 48.
MOST_REQUESTS = 50


def ignores_offset(vendor: ListVendor, limit: int, _offset: int) -> Any:
    return paged(vendor.records[:limit], 500, limit, 0, has_more=True)


def clamps_offset(vendor: ListVendor, limit: int, offset: int) -> Any:
    start = min(offset, 200)
    return paged(vendor.records[start : start + limit], 500, limit, start, has_more=True)


def ignores_offset_and_grows(vendor: ListVendor, limit: int, _offset: int) -> Any:
    return paged(vendor.records[:limit], 500 + 20 * vendor.lists, limit, 0, has_more=True)


def never_ends(_vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged([model(offset + number) for number in range(limit)], 500, limit, offset, has_more=True)


def grows_for_ever(_vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged([model(offset + number) for number in range(limit)], offset + 1000, limit, offset)


def counts_nobody_and_never_ends(_vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged([model(offset + number) for number in range(limit)], 0, limit, offset, has_more=True)


def counts_nobody_and_ignores_offset(vendor: ListVendor, limit: int, _offset: int) -> Any:
    return paged(vendor.records[:limit], 0, limit, 0, has_more=True)


def promises_more_than_it_shows(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + limit], 10**18, limit, offset, has_more=True)


def shows_nothing(_vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged([], 500, limit, offset, has_more=True)


def tells_neither_total_nor_more(vendor: ListVendor, limit: int, offset: int) -> Any:
    page = paged(vendor.records[offset : offset + limit], 500, limit, offset)
    page["pagination"] = {"total": "many", "hasMore": None}
    return page


def repeats_one_model(_vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged([model(1)] * limit, 500, limit, offset, has_more=True)


UNREADABLE = (
    ignores_offset,
    clamps_offset,
    ignores_offset_and_grows,
    never_ends,
    grows_for_ever,
    counts_nobody_and_never_ends,
    counts_nobody_and_ignores_offset,
    promises_more_than_it_shows,
    shows_nothing,
    repeats_one_model,
)


def turn(vendor: ListVendor, page: Callable[[ListVendor, int, int], Any]) -> None:
    vendor.page = lambda limit, offset, _status: page(vendor, limit, offset)


@pytest.mark.parametrize("page", UNREADABLE)
def test_list_that_makes_no_sense_fails_the_pull(odd: StartOdd, page: Callable[..., Any]) -> None:
    vendor, here = odd(models(500))
    turn(vendor, page)
    row = here.pull()
    assert row["status"] == "failed"
    assert row["error"]
    assert vendor.lists <= MOST_REQUESTS
    # The models that it showed are mirrored.
    assert len(here.sql("select id from headshotpro.models")) >= row["inserted"]


@pytest.mark.parametrize("page", UNREADABLE)
def test_list_that_makes_no_sense_ends_verify(odd: StartOdd, page: Callable[..., Any]) -> None:
    vendor, here = odd(models(500))
    turn(vendor, page)
    with pytest.raises(ListUnusable, match="cannot be compared"):
        differences(here)
    assert vendor.lists <= MOST_REQUESTS


def test_ignored_offset_is_named_after_three_requests(odd: StartOdd) -> None:
    vendor, here = odd(models(500))
    turn(vendor, ignores_offset)
    row = here.pull()
    assert row["error"] == (
        "the upstream ignores offset: 2 pages in a row showed no new model, and the walk saw 200 of 500 models"
    )
    assert vendor.lists == 3


def test_ignored_offset_is_found_out_in_slices_of_one_page(odd: StartOdd) -> None:
    vendor, here = odd(models(500))
    turn(vendor, ignores_offset)
    pages = count()
    while here.sql("select 1 from headshotpro.pulls where status <> 'running'") == []:
        here.read_pages(1)
        assert next(pages) < MOST_REQUESTS
    assert "does not end" in here.sql("select error from headshotpro.pulls")[0]["error"]


def test_page_without_total_and_has_more_is_refused(odd: StartOdd) -> None:
    vendor, here = odd(models(500))
    turn(vendor, tells_neither_total_nor_more)
    for _ in range(5):
        here.slice(wake=True, interval=60)
    (row,) = here.sql("select * from headshotpro.pulls")
    assert row["status"] == "failed"
    assert "neither a usable `total` nor a usable `hasMore`" in row["error"]


def has_no_pagination(vendor: ListVendor, limit: int, offset: int) -> Any:
    page = vendor.honest(limit, offset, None)
    del page["pagination"]
    return page


def has_null_for_models(vendor: ListVendor, limit: int, offset: int) -> Any:
    return {**vendor.honest(limit, offset, None), "models": None}


def is_an_html_page(_vendor: ListVendor, _limit: int, _offset: int) -> Any:
    return "<!doctype html><html><head><title>Log in</title></head><body>Log in first.</body></html>"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (has_no_pagination, "`pagination` has neither a usable `total` nor a usable `hasMore`"),
        (has_null_for_models, "`models` is no list"),
        (is_an_html_page, "the response is not JSON"),
    ],
)
def test_unusable_list_fails_the_pull_within_two_minutes(
    odd: StartOdd, monkeypatch: pytest.MonkeyPatch, page: Callable[..., Any], reason: str
) -> None:
    waits = RecordedPauses()
    monkeypatch.setattr(Runtime, "pause", lambda _runtime, seconds: waits(seconds))
    vendor, here = odd(models(500))
    turn(vendor, page)
    while not (ended := here.sql("select * from headshotpro.pulls where status <> 'running'")):
        here.slice(wake=True, interval=60)
        waits += [
            row["seconds"]
            for row in here.sql(
                "select extract(epoch from leased_until - now())::float as seconds from headshotpro.pull_checkpoints"
            )
        ]
    assert (ended[0]["status"], ended[0]["models_seen"]) == ("failed", 0)
    assert reason in ended[0]["error"]
    # The command waits as long as the pull rests.
    assert 90 < sum(waits) < 120


# --- odd, but whole


def shows_everything_each_time(vendor: ListVendor, limit: int, _offset: int) -> Any:
    return paged(vendor.records, 500, limit, 0, has_more=True)


def ends_too_early(vendor: ListVendor, _limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + 50], 500, 200, offset, has_more=False)


def clamps_limit(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + 100], 500, min(limit, 100), offset)


def clamps_limit_silently(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + 50], 500, limit, offset, has_more=offset + 50 < 500)


def never_says_that_it_ends(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + limit], 500, limit, offset, has_more=True)


def counts_nobody(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + limit], 0, limit, offset, has_more=offset + limit < 500)


def counts_less_than_nobody(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + limit], -7, limit, offset, has_more=offset + limit < 500)


def counts_in_words(vendor: ListVendor, limit: int, offset: int) -> Any:
    return paged(vendor.records[offset : offset + limit], "500", limit, offset, has_more=offset + limit < 500)


def does_not_count(vendor: ListVendor, limit: int, offset: int) -> Any:
    page = paged(vendor.records[offset : offset + limit], 500, limit, offset)
    del page["pagination"]["total"], page["pagination"]["limit"]
    return page


def does_not_say_whether_more_follow(vendor: ListVendor, limit: int, offset: int) -> Any:
    page = paged(vendor.records[offset : offset + limit], 500, limit, offset)
    del page["pagination"]["hasMore"]
    return page


def shows_each_twice(vendor: ListVendor, limit: int, offset: int) -> Any:
    twice = [record for record in vendor.records for _ in range(2)]
    return paged(twice[offset : offset + limit], 500, limit, offset, has_more=offset + limit < 1000)


WHOLE = (
    shows_everything_each_time,
    ends_too_early,
    clamps_limit,
    clamps_limit_silently,
    never_says_that_it_ends,
    counts_nobody,
    counts_less_than_nobody,
    counts_in_words,
    does_not_count,
    does_not_say_whether_more_follow,
    shows_each_twice,
)


@pytest.mark.parametrize("page", WHOLE)
def test_odd_list_that_shows_everybody_is_read_whole(odd: StartOdd, page: Callable[..., Any]) -> None:
    vendor, here = odd(models(500))
    turn(vendor, page)
    row = here.pull()
    assert (row["status"], row["error"], row["inserted"]) == ("complete", None, 500)
    assert vendor.lists <= MOST_REQUESTS
    assert differences(here) == []


def test_page_that_is_too_large_is_read_in_shorter_ones(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LARGEST_BODY", 30_000)
    # 25 of these records fit, 32 do not.
    vendor, here = odd([model(number, title="x" * 800) for number in range(32)])
    row = here.pull()
    assert (row["status"], row["models_seen"], row["error"]) == ("complete", 32, None)
    limits = [int(parse_qs(urlsplit(path).query)["limit"][0]) for path in vendor.asked if "limit=" in path]
    # What did not fit once is not tried at the next page.
    assert limits[:4] == [200, 100, 50, 25]
    assert set(limits[4:]) == {25}


def padded(vendor: ListVendor, *, after: int) -> Callable[..., Any]:
    """Pages that are too large behind a place, however few models they show."""
    return lambda *asked: vendor.honest(*asked) | {"padding": "x" * 200_000 * (asked[1] > after)}


def test_pages_are_full_again_after_a_moment_of_large_ones(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LARGEST_BODY", 100_000)
    vendor, here = odd(models(400))
    usual = here.pull()["requests"]
    vendor.page = padded(vendor, after=0)
    here.slice()
    vendor.page = vendor.honest
    here.slice(wake=True, interval=60)
    here.pull()
    rows = here.sql("select status, error, requests from headshotpro.pulls order by id")
    assert [(row["status"], row["error"]) for row in rows] == [("complete", None)] * 3
    assert rows[-1]["requests"] == usual


def test_pages_too_large_at_any_size_fail_the_pull(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LARGEST_BODY", 100_000)
    vendor, here = odd(models(400))
    vendor.page = padded(vendor, after=-1)
    for _ in range(MAX_FAILURES):
        here.slice(wake=True, interval=60)
    (row,) = here.sql("select status, error from headshotpro.pulls")
    assert row["status"] == "failed"
    assert "the body is larger than 100000 bytes" in row["error"]
    assert vendor.lists == 4 * MAX_FAILURES
    assert SHORTEST_PAGE >= 2 * OVERLAP


# --- the hot pull


def test_ignored_status_filter_ends_the_hot_pull(odd: StartOdd) -> None:
    vendor, here = odd(models(500))
    vendor.page = lambda limit, offset, _status: vendor.honest(limit, offset, None)
    row = here.pull(HOT)
    assert row["status"] == "failed"
    assert row["error"].startswith("the upstream ignores the status filter")
    assert vendor.lists <= 3


def test_few_models_of_another_status_do_not_end_the_hot_pull(odd: StartOdd) -> None:
    vendor, here = odd(models(8))
    vendor.page = lambda limit, offset, _status: vendor.honest(limit, offset, None)
    row = here.pull(HOT)
    assert (row["status"], row["inserted"]) == ("complete", 8)


def test_ignored_offset_ends_the_hot_pull(odd: StartOdd) -> None:
    vendor, here = odd([model(number, status="onboarding") for number in range(500)])
    turn(vendor, ignores_offset)
    row = here.pull(HOT)
    assert row["error"].startswith("the upstream ignores offset")
    assert vendor.lists == 3


# --- the command


def test_pull_command_says_that_the_offset_is_ignored(odd: StartOdd, folder: Any) -> None:
    from tests.support.cli import Cli

    vendor, here = odd(models(500))
    turn(vendor, ignores_offset)
    cli = Cli(folder, **here.variables)
    done = cli.run("pull")
    assert done.status == 1
    assert "the upstream ignores offset" in done.err.splitlines()[-1]
    assert FULL in done.out
