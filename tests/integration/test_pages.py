"""Pages merged by sets end where `apply` ends, model by model, also with other events about their models in between."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from msgspec import UNSET

from service.mirror.apply import apply
from service.mirror.merge import Observation
from service.mirror.observe import from_absence, from_list
from service.mirror.pages import PagesResult, merge_pages
from service.mirror.prefetch import FetchedPage, digests_of
from service.mirror.walk import Walk, WalkPage
from service.storage import database, erasure, pages, refetches
from service.storage.database import transaction
from service.storage.models import CLOCK_COLUMNS
from service.upstream.payloads import ListedModel
from tests.support.system import new_id, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Engine

    Merge = Callable[[Connection, Sequence[FetchedPage]], object]

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
STATUSES = ("onboarding", "pending", "active", "failed", "deleted", "zombie", None)
TABLES = "models, model_clocks, model_changes, refetch_requests"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    opened = database.connect(database_url)
    yield opened
    opened.dispose()


def by_sets(connection: Connection, reads: Sequence[FetchedPage]) -> PagesResult:
    return merge_pages(connection, reads, 7, NOON)


def one_by_one(connection: Connection, reads: Sequence[FetchedPage]) -> None:
    """As a pull did before it knew sets."""
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


def a_page(at: datetime, *models: ListedModel) -> FetchedPage:
    """A page that was read."""
    page = WalkPage([model.id for model in models], [], len(models), full=False, has_more=False, sent_at=at)
    return FetchedPage(page, models, digests_of(models), at + timedelta(seconds=3), joined=True, walk=Walk())


# --- every mixture of observations


class World:
    """Seeded: pages of a list that hardly changes, and what webhooks, GETs and erasing do in between."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._ids = [f"65a51e400000000000000{number:03x}" for number in range(8)]
        self._listed = {model_id: self._drawn(model_id) for model_id in self._ids}
        self._now = NOON

    def steps(self) -> Iterator[Callable[[Connection, Merge], object]]:
        """The observations, one after another."""
        for _ in range(40):
            self._now += timedelta(seconds=self._rng.choice((0.5, 2, 60)))
            yield self._pages() if self._rng.random() < 0.6 else self._other()

    def _drawn(self, model_id: str) -> ListedModel:
        fields: dict[str, Any] = {"status": self._rng.choice(STATUSES), "title": self._rng.choice("ab")}
        if self._rng.random() < 0.1:
            fields["email"] = UNSET
        return a_model(model_id, **fields)

    def _pages(self) -> Callable[[Connection, Merge], object]:
        """Two pages, one after the other, of which one may be older than what is known."""
        shown = self._rng.sample(self._ids, 6)
        for model_id in shown:
            if self._rng.random() < 0.15:
                self._listed[model_id] = self._drawn(model_id)
        at = self._now - timedelta(seconds=self._rng.choice((0, 0, 1, 90)))
        halves = (shown[:3], shown[3:])
        reads = [
            a_page(at + timedelta(seconds=place), *(self._listed[model_id] for model_id in half))
            for place, half in enumerate(halves)
        ]
        return lambda connection, merge: merge(connection, reads)

    def _other(self) -> Callable[[Connection, Merge], object]:
        """An event, a 404 that counts, a GET that shows it alive, or erasing."""
        model_id, at = self._rng.choice(self._ids), self._now
        if (dice := self._rng.random()) < 0.15:
            return lambda connection, _: erasure.erase(connection, [model_id], at)
        seen = Observation(model_id, at, at, {"status": self._rng.choice(STATUSES[:4]), "title": "c"})
        if dice < 0.35:
            seen = from_absence(model_id, at)
        elif dice < 0.5:
            fields = {**seen.fields, "email": "b@example.com", "photo_count": 40}
            seen = Observation(model_id, at, at + timedelta(seconds=3), fields, alive=True)
        return lambda connection, _: apply(connection, [seen], "webhook")


def ended(engine: Engine, url: str, seed: int, merge: Merge) -> list[dict[str, Any]]:
    """All that is stored when a world is over, but for our own times, numbers, and the marks of pages."""
    with transaction(engine, by_key=True) as connection:
        connection.exec_driver_sql("truncate " + ", ".join(f"headshotpro.{name}" for name in TABLES.split(", ")))
    for step in World(seed).steps():
        with transaction(engine, by_key=True) as connection:
            step(connection, merge)
    return [
        *rows(url, "select to_jsonb(m) - 'updated_at' - 'erased_at' as row from headshotpro.models as m order by id"),
        *rows(url, f"select {', '.join(('model_id', *CLOCK_COLUMNS))} from headshotpro.model_clocks order by model_id"),
        *rows(
            url,
            "select to_jsonb(c) - 'id' - 'recorded_at' as row from headshotpro.model_changes as c "
            "order by model_id, id",
        ),
        *rows(url, "select model_id, after, reason from headshotpro.refetch_requests order by model_id"),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_pages_by_sets_end_where_models_one_by_one_end(engine: Engine, database_url: str, seed: int) -> None:
    expected = ended(engine, database_url, seed, one_by_one)
    assert len(expected) > 40
    assert ended(engine, database_url, seed, by_sets) == expected


# --- pages that overlap


def test_a_model_that_two_pages_show_alike_counts_once(engine: Engine, database_url: str) -> None:
    model_id = new_id()
    reads = [a_page(NOON + timedelta(seconds=place), a_model(model_id)) for place in (1, 2)]
    with transaction(engine, by_key=True) as connection:
        assert by_sets(connection, reads) == PagesResult(1, 1, 0, 0)
    (clock,) = rows(database_url, "select core_at, shown_at from headshotpro.model_clocks")
    assert clock["core_at"] == clock["shown_at"] == reads[1].page.sent_at
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
        ids = sorted(model_id for read in reads for model_id in read.page.ids)
        digests = [mark for read in reads for mark in read.digests]
        shown = pages.ShownModels(
            ids, digests, [False] * len(ids), [*range(len(ids))], [NOON] * len(ids), [None] * len(ids)
        )
        with transaction(engine, by_key=True) as connection, psycopg.connect(database_url) as other:
            met = pages.confirm(connection, shown, ids, NOON)
            assert met.missing == ({unknown.page.ids[0]} if not locked else set())
            with pytest.raises(psycopg.errors.LockNotAvailable) if locked else nullcontext():
                other.execute(lock)
