"""Pages merged by sets end in the rows in which `apply` ends, whatever is stored before."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from service.mirror.apply import apply
from service.mirror.codec import digests_of
from service.mirror.merge import Observation
from service.mirror.observe import from_list
from service.mirror.pages import PagesResult, merge_pages
from service.mirror.prefetch import FetchedPage
from service.mirror.walk import Walk, WalkPage
from service.storage import database, erasure, merged, pages, refetches
from service.storage.database import transaction
from service.storage.refetches import RefetchReason, RefetchRequest
from service.upstream.payloads import ListedModel
from tests.support.histories import NOON, ms, observed
from tests.support.processes import eventually
from tests.support.searching import examples
from tests.support.system import new_id, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    Merge: TypeAlias = Callable[[Connection, Sequence[FetchedPage]], object]
    Step: TypeAlias = Callable[[Connection, Merge], object]

# Each table of models, the order of its rows, and its columns of our own times and numbers.
STORED = {
    "models": ("id", ["updated_at"]),
    "model_clocks": ("model_id", []),
    "model_changes": ("model_id, id", ["id", "recorded_at"]),
    "refetch_requests": ("model_id", ["due_at"]),
    "accuracy_checks": ("model_id, id", ["id", "checked_at", "decided_at", "repaired_at", "stale_seconds"]),
}
WAITING = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = database.connect(database_url)
    yield opened
    opened.dispose()


def by_sets(connection: Connection, reads: Sequence[FetchedPage]) -> PagesResult:
    return merge_pages(connection, reads, 7, NOON)


def one_by_one(connection: Connection, reads: Sequence[FetchedPage]) -> None:
    """The merge alone."""
    apply(
        connection,
        [from_list(model, read.page.sent_at, read.received_at) for read in reads for model in read.models],
        "pull",
        pull_id=7,
    )
    refetches.complete_profiles(connection, sorted({model_id for read in reads for model_id in read.page.ids}))


def a_model(model_id: str, **fields: Any) -> ListedModel:
    """A model as the list shows it, with every field."""
    told = {
        "uid": "anon_1",
        "email": "a@example.com",
        "title": 'Jörg "Joe" \\ O\u2019Neill\n',
        "status": "active",
        "team_id": None,
        "team_name": None,
        "is_development": False,
        "created_at": NOON,
        "finished_at": None,
    }
    return ListedModel(**{"id": model_id, **told, **fields})


def a_page(at: datetime, *models: ListedModel, width: timedelta = timedelta(seconds=3)) -> FetchedPage:
    """A page that was read at a time or up to a width later."""
    page = WalkPage([model.id for model in models], [], len(models), full=False, has_more=False, sent_at=at)
    return FetchedPage(page, models, digests_of(models), at + width, joined=True, walk=Walk())


# --- any page, in any state


# Two models, and few moments, so that ties, overlaps and late pages are common.
IDS = ["65a51e400000000000000001", "65a51e400000000000000002"]
at_moments = st.integers(0, 9).map(ms)
widths = st.integers(0, 3).map(lambda width: timedelta(milliseconds=width))
statuses = st.sampled_from(("active", "active", "active", "pending", "deleted", "", UNSET))
emails = st.sampled_from(("a@example.com", "a@example.com", "a@example.com", None, UNSET))


@st.composite
def records(draw: st.DrawFn) -> ListedModel:
    """A record of a list page; the lists of one history have few different ones."""
    return a_model(draw(st.sampled_from(IDS)), status=draw(statuses), email=draw(emails))


@st.composite
def page_steps(draw: st.DrawFn, listed: Sequence[ListedModel]) -> Step:
    """Some pages of one transaction; they overlap, and a page may show a model twice."""
    shown = draw(st.lists(st.lists(st.sampled_from(listed), min_size=1, max_size=2), min_size=1, max_size=2))
    reads = [a_page(draw(at_moments), *models, width=draw(widths)) for models in shown]
    return lambda connection, merge: merge(connection, reads)


@st.composite
def other_steps(draw: st.DrawFn) -> Step:
    """A webhook, a GET, a list page outside a pull, an absence, an erasure, or a request."""
    model_id, at = draw(st.sampled_from(IDS)), draw(at_moments)
    if (kind := draw(st.integers(0, 9))) == 0:
        return lambda connection, _: erasure.erase(connection, [model_id], at)
    if kind == 1:
        request = RefetchRequest(model_id, draw(st.none() | st.just(at)), RefetchReason.LEFT_HOT, at)
        return lambda connection, _: merged.add_requests(connection, [request])
    seen = msgspec.structs.replace(draw(observed()), model_id=model_id)
    return lambda connection, _: apply(connection, [seen], "webhook")


@st.composite
def page_histories(draw: st.DrawFn) -> list[Step]:
    """Any observations of some models, and then a page about them."""
    listed = draw(st.lists(records(), min_size=1, max_size=3))
    steps = draw(st.lists(other_steps() | page_steps(listed), max_size=4))
    return [*steps, draw(page_steps(listed))]


class Undone(Exception):
    """Ends a transaction without a trace of it."""


def stored_after(engine: Engine, steps: Sequence[Step], merge: Merge) -> dict[str, list[dict[str, Any]]]:
    """All rows of models after some steps, without our own times and numbers."""
    stored: dict[str, list[dict[str, Any]]] = {}
    with suppress(Undone), transaction(engine, by_key=True) as connection:
        for step in steps:
            step(connection, merge)
        for table, (order, left_out) in STORED.items():
            query = f"select to_jsonb(t) - array{left_out}::text[] from headshotpro.{table} as t order by {order}"
            stored[table] = list(connection.exec_driver_sql(query).scalars())
        raise Undone
    return stored


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(page_histories())
def test_pages_by_sets_end_in_the_rows_of_the_merge(engine: Engine, steps: list[Step]) -> None:
    assert stored_after(engine, steps, by_sets) == stored_after(engine, steps, one_by_one)


# --- pages that overlap


def test_a_model_that_two_pages_show_alike_counts_once(engine: Engine, database_url: str) -> None:
    model_id = new_id()
    reads = [a_page(NOON + timedelta(seconds=place), a_model(model_id)) for place in (1, 2)]
    with transaction(engine, by_key=True) as connection:
        assert by_sets(connection, reads) == PagesResult(1, 1, 0, 0)
    (clock,) = rows(database_url, "select core_at from headshotpro.model_clocks")
    assert clock["core_at"] == reads[1].page.sent_at
    assert rows(database_url, "select count(*) as number from headshotpro.model_changes") == [{"number": 1}]


@pytest.mark.parametrize("known", [False, True])
def test_of_two_pages_that_differ_about_a_model_the_later_holds(engine: Engine, database_url: str, known: bool) -> None:
    model_id = new_id()
    before = a_model(model_id, status="pending")
    if known:
        with transaction(engine, by_key=True) as connection:
            by_sets(connection, [a_page(NOON, before)])
    reads = [
        a_page(NOON + timedelta(seconds=60), before),
        a_page(NOON + timedelta(seconds=61), a_model(model_id, status="active")),
    ]
    with transaction(engine, by_key=True) as connection:
        assert by_sets(connection, reads) == PagesResult(0 if known else 1, 0 if known else 1, 1 if known else 0, 0)
    assert rows(database_url, "select status from headshotpro.models") == [{"status": "active"}]


def test_a_page_that_shows_a_model_twice_is_settled_like_a_tie(engine: Engine, database_url: str) -> None:
    model_id = new_id()
    page = a_page(NOON, a_model(model_id, status="active"), a_model(model_id, status="pending"))
    with transaction(engine, by_key=True) as connection:
        by_sets(connection, [page])
    assert rows(database_url, "select status from headshotpro.models") == [{"status": "active"}]
    assert rows(database_url, "select reason from headshotpro.refetch_requests") == [{"reason": "dispute"}]


@pytest.mark.parametrize("known", [False, True])
def test_page_settles_requests_for_the_profiles_it_shows(engine: Engine, database_url: str, known: bool) -> None:
    page = a_page(NOON, a_model(IDS[0]))
    with transaction(engine, by_key=True) as connection:
        if known:
            by_sets(connection, [page])
        ids = (IDS[0], None), (IDS[1], None), (new_id(), NOON)
        requests = [RefetchRequest(one, after, RefetchReason.PROFILE, NOON) for one, after in ids]
        merged.add_requests(connection, requests)
        by_sets(connection, [page])
    left = rows(database_url, "select model_id from headshotpro.refetch_requests order by after nulls first")
    assert [row["model_id"] for row in left] == [ids[1][0], ids[2][0]]


# --- what it writes


def test_a_page_that_tells_nothing_new_moves_clocks_alone(engine: Engine, database_url: str) -> None:
    models = [a_model(new_id()) for _ in range(5)]
    for place in range(2):
        with transaction(engine, by_key=True) as connection:
            by_sets(connection, [a_page(NOON + timedelta(minutes=place), *models)])
        if place == 0:
            before = rows(database_url, "select id, xmin::text from headshotpro.models order by id")
    assert rows(database_url, "select id, xmin::text from headshotpro.models order by id") == before
    assert {row["profile_at"] for row in rows(database_url, "select profile_at from headshotpro.model_clocks")} == {
        NOON + timedelta(minutes=1)
    }


def test_while_a_model_is_unknown_none_is_locked(engine: Engine, database_url: str) -> None:
    known, unknown = a_page(NOON, a_model(new_id())), a_page(NOON, a_model(new_id()))
    with transaction(engine, by_key=True) as connection:
        by_sets(connection, [known])
    lock = "select from headshotpro.model_clocks for update nowait"
    for reads, locked in (([known, unknown], False), ([known], True)):
        digests = {read.page.ids[0]: read.digests[0] for read in reads}
        shown = pages.ShownModels(digests, dict.fromkeys(digests, 0), [(NOON, None)])
        with transaction(engine, by_key=True) as connection, psycopg.connect(database_url) as other:
            found = pages.confirm(connection, shown, NOON)
            assert found.missing == ({unknown.page.ids[0]} if not locked else set())
            with pytest.raises(psycopg.errors.LockNotAvailable) if locked else nullcontext():
                other.execute(lock)


def test_model_that_changes_while_a_page_waits_is_merged(engine: Engine, database_url: str) -> None:
    model_id = new_id()
    first, later = (a_page(NOON + timedelta(minutes=place), a_model(model_id)) for place in (0, 2))
    between = NOON + timedelta(minutes=1)
    failed = Observation(model_id, between, between, {"status": "failed"})

    def merge(read: FetchedPage) -> None:
        with transaction(engine, by_key=True) as connection:
            by_sets(connection, [read])

    merge(first)
    waiting = Thread(target=merge, args=(later,))
    with transaction(engine) as connection:
        apply(connection, [failed], "webhook")
        waiting.start()
        assert eventually(lambda: rows(database_url, WAITING))
    waiting.join(20)
    # Confirmed as it was before, it would stay as the webhook left it.
    assert rows(database_url, "select status from headshotpro.models") == [{"status": "active"}]


@pytest.mark.parametrize("minutes", [-1, 0, 1])
def test_same_record_of_any_time_is_confirmed(engine: Engine, database_url: str, minutes: int) -> None:
    page = a_page(NOON, a_model(new_id()))
    with transaction(engine, by_key=True) as connection:
        by_sets(connection, [page])
    at, until = NOON + timedelta(minutes=minutes), NOON + timedelta(minutes=minutes + 2)
    shown = pages.ShownModels(dict(zip(page.page.ids, page.digests, strict=True)), {page.page.ids[0]: 0}, [(at, until)])
    with transaction(engine, by_key=True) as connection:
        assert pages.confirm(connection, shown, NOON) == pages.KnownModels(set(), 0, set())
    clocks = rows(database_url, "select core_at, profile_at, observed_until from headshotpro.model_clocks")
    assert clocks == [{"core_at": max(at, NOON), "profile_at": max(at, NOON), "observed_until": until}]
