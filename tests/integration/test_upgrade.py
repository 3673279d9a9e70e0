"""Upgrades: a full database in use goes from the first revision to the newest, and no process has to stop for it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.errors import LockUnavailable
from service.mirror.drain import drain_spool
from service.storage import database
from service.storage.migrations import schema
from tests.integration.test_schema import picture
from tests.support.drainer import TOLERANCE
from tests.support.processes import eventually
from tests.support.servers import new_database
from tests.support.system import rows
from tests.support.upgrades import (
    FIRST,
    NEWEST,
    DatabaseLoad,
    fill,
    made_up_revision,
    make,
    merge_as_first_release,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

# They copy databases that take longer to make than most of them: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("upgrade")

MODELS = 2000
# Seconds that no other transaction may take, however long a reader stays: five times the lock timeout of these tests.
HELD_UP = 2.0
SNAPSHOT = ("set transaction isolation level repeatable read", "select count(*) from headshotpro.organization")


@pytest.fixture(autouse=True)
def _made_up_revision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Short, so that the tests are.
    monkeypatch.setattr(schema, "LOCK_SECONDS", 0.4)
    monkeypatch.setattr(schema, "PAUSE_SECONDS", 0.5)
    with made_up_revision():
        yield


@pytest.fixture(scope="module")
def templates(postgres: Postgres) -> Iterator[dict[str, str]]:
    """Databases that each test copies: `old` was filled at the first revision, `newest` was made at once."""
    with new_database(postgres, "template0") as old, new_database(postgres, "template0") as newest:
        make(old)
        fill(old, MODELS)
        with made_up_revision():
            make(old, schema.revisions()[-2])
            upgrade(newest, [])
        yield {name: url.rpartition("/")[2] for name, url in (("old", old), ("newest", newest))}


@pytest.fixture
def old_database_url(postgres: Postgres, templates: dict[str, str]) -> Iterator[str]:
    """A database that was filled at the first revision, and is at the one before the made-up one: this code uses it."""
    with new_database(postgres, templates["old"]) as url:
        yield url


@pytest.fixture
def newest_database_url(postgres: Postgres, templates: dict[str, str]) -> Iterator[str]:
    """An empty database of the newest revision, made at once."""
    with new_database(postgres, templates["newest"]) as url:
        yield url


@contextmanager
def reader(url: str, *statements: str) -> Iterator[None]:
    """Somebody who reads in a transaction and stays in it."""
    with psycopg.connect(url, application_name="a long reader") as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield


def upgrade(url: str, reported: list[str]) -> str:
    return schema.migrate(url, reported.append)


TRIES_AGAIN = "another transaction holds a lock: canceling statement due to lock timeout. Trying again."
ANOTHER = "Another migration is running. Trying again."
BUILDS_INDEX = (
    "select 1 from pg_stat_progress_create_index where datname = current_database() and phase like 'waiting%%'"
)


def test_a_full_database_is_migrated_under_load(old_database_url: str, newest_database_url: str) -> None:
    reported: list[str] = []
    load = DatabaseLoad(old_database_url)
    with ThreadPoolExecutor() as pool, load.running():
        assert eventually(lambda: len(load.written) > 100)
        # One holds a lock that a revision needs.
        with reader(old_database_url, "select count(*) from headshotpro.webhook_events"):
            # The other looks at a moment of the past: until it ends no index can be finished.
            with reader(old_database_url, *SNAPSHOT):
                migrated = pool.submit(upgrade, old_database_url, reported)
                assert eventually(lambda: rows(old_database_url, BUILDS_INDEX))
            assert eventually(lambda: reported)
            before = len(load.written)
            assert eventually(lambda: len(load.written) > before + 100)
        assert migrated.result(60) == NEWEST
        before = len(load.written)
        assert eventually(lambda: len(load.written) > before + 100)
    assert reported == [TRIES_AGAIN]
    assert load.longest < HELD_UP
    assert load.refused == []
    assert load.reads > 0
    assert_nothing_lost(old_database_url, load)
    assert_new_code_applies_what_old_code_kept(old_database_url, load)
    assert picture(old_database_url) == picture(newest_database_url)


def test_each_revision_runs_beside_the_first_release(empty_database_url: str) -> None:
    make(empty_database_url)
    fill(empty_database_url, MODELS)
    reported: list[str] = []
    load = DatabaseLoad(empty_database_url, merge_as_first_release)
    with ThreadPoolExecutor() as pool, load.running():
        assert eventually(lambda: len(load.written) > 100)
        # The revision of accuracy locks it, together with other tables that the load writes.
        with reader(empty_database_url, "select count(*) from headshotpro.model_clocks"):
            migrated = pool.submit(upgrade, empty_database_url, reported)
            assert eventually(lambda: reported)
            before = len(load.written)
            assert eventually(lambda: len(load.written) > before + 100)
        assert migrated.result(60) == NEWEST
        before = len(load.written)
        assert eventually(lambda: len(load.written) > before + 100)
    assert set(reported) == {TRIES_AGAIN}
    assert load.longest < HELD_UP
    assert load.refused == []
    assert_nothing_lost(empty_database_url, load)


def assert_nothing_lost(url: str, load: DatabaseLoad) -> None:
    events = {row["id"]: row["model_id"] for row in rows(url, "select id, model_id from headshotpro.webhook_events")}
    assert {event: model for event, model in events.items() if event in load.written} == {
        event: model for event, (model, _) in load.written.items()
    }
    assert len(events) == MODELS + len(load.written)
    titles = {row["id"]: row["title"] for row in rows(url, "select id, title from headshotpro.models")}
    assert {model: titles[model] for model in load.latest} == load.latest
    assert len(titles) == MODELS + len(load.latest)
    first = rows(url, "select count(*) from headshotpro.model_changes where model_id like 'old%%'")
    assert first == [{"count": 3 * MODELS}]


def assert_new_code_applies_what_old_code_kept(url: str, load: DatabaseLoad) -> None:
    engine = database.connect(url)
    results: Counter[str] = Counter()
    while found := drain_spool(engine, TOLERANCE).results:
        results += found
    engine.dispose()
    assert results == {"applied": len(load.spooled)}
    query = "select id from headshotpro.models where status = 'active'"
    assert set(load.spooled) <= {row["id"] for row in rows(url, query)}


def test_migration_behind_a_lock_gives_up_and_can_go_on(old_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MAX_WAIT_SECONDS", 0.0)
        with (
            reader(old_database_url, "select count(*) from headshotpro.event_spool"),
            pytest.raises(LockUnavailable, match="lock timeout"),
        ):
            upgrade(old_database_url, [])
    assert upgrade(old_database_url, []) == NEWEST


def test_two_migrators_at_once_take_turns(old_database_url: str) -> None:
    reported: list[str] = []
    with ThreadPoolExecutor() as pool:
        with reader(old_database_url, "select count(*) from headshotpro.webhook_events"):
            both = [pool.submit(upgrade, old_database_url, reported) for _ in range(2)]
            working = "select 1 from pg_stat_activity where datname = current_database() and query like 'LOCK TABLE%%'"
            assert eventually(lambda: rows(old_database_url, working))
            assert eventually(lambda: ANOTHER in reported)
        assert [one.result(60) for one in both] == [NEWEST] * 2
    assert reported.count(ANOTHER) == 1


def test_an_index_whose_building_was_broken_off_is_built_anew(old_database_url: str, newest_database_url: str) -> None:
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        connection.execute("create index models_made_up_idx on headshotpro.models (id)")
        connection.execute(
            "update pg_index set indisvalid = false where indexrelid = 'headshotpro.models_made_up_idx'::regclass"
        )
    upgrade(old_database_url, [])
    assert picture(old_database_url) == picture(newest_database_url)


def test_database_with_repeatable_read_default_is_migrated(old_database_url: str) -> None:
    name = old_database_url.rpartition("/")[2]
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        connection.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'".encode())
    assert upgrade(old_database_url, []) == NEWEST


def test_each_revision_only_adds(empty_database_url: str) -> None:
    make(empty_database_url, FIRST)
    for revision in schema.revisions()[1:]:
        before = columns(empty_database_url)
        make(empty_database_url, revision)
        after = columns(empty_database_url)
        assert before.items() <= after.items()
        # Code of before leaves new columns out of its inserts.
        old_tables = {table for table, _ in before}
        new = {place: column for place, column in after.items() if place not in before and place[0] in old_tables}
        assert [place for place, column in new.items() if not column["optional"]] == []


def columns(url: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Each column by its table and name: its type, and whether an insert may leave it out."""
    query = """
        select table_name, column_name, data_type, is_generated,
            is_nullable = 'YES' or is_identity = 'YES' or column_default is not null as optional
        from information_schema.columns where table_schema = 'headshotpro'
    """
    return {(row.pop("table_name"), row.pop("column_name")): row for row in rows(url, query)}


def test_migration_that_never_gets_its_turn_gives_up(old_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_WAIT_SECONDS", 0.0)
    holds = f"select pg_advisory_xact_lock({schema.MIGRATION_LOCK})"
    with reader(old_database_url, holds), pytest.raises(LockUnavailable, match="Another migration is running"):
        upgrade(old_database_url, [])
