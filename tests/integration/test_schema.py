"""The schema: how it comes into a database, that two roads lead to the same one, and who refuses to work with it."""

from __future__ import annotations

import hashlib
import runpy
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from service.errors import PostgresUnavailable, SchemaOutdated, SchemaUnreleased
from service.storage import database, merged
from service.storage.migrations import merge_functions, revision, schema
from tests.support.system import new_id, rows
from tests.support.threads import run_concurrently
from tests.support.upgrades import FIRST, NEWEST, made_up_revision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

TABLES = {"models", "model_changes", "webhook_events", "pulls", "alerts", "alembic_version"}

# Everything that one may see of a schema, each thing as a line.
PICTURE = """
    select format('column %s.%s %s null=%s default=%s', table_name, column_name, data_type, is_nullable,
        column_default || coalesce(identity_generation, ''))
    from information_schema.columns where table_schema = 'headshotpro'
    union all
    select indexdef from pg_indexes where schemaname = 'headshotpro'
    union all
    select format('constraint %s %s', conname, pg_get_constraintdef(c.oid))
    from pg_constraint c where connamespace = 'headshotpro'::regnamespace
    union all
    select format('comment %s.%s %s', c.relname, d.objsubid, d.description)
    from pg_description d join pg_class c on c.oid = d.objoid where c.relnamespace = 'headshotpro'::regnamespace
    union all
    select format('relation %s %s %s', relname, relkind, reloptions) from pg_class
    where relnamespace = 'headshotpro'::regnamespace
    union all
    select format('function %s', pg_get_functiondef(oid)) from pg_proc where pronamespace = 'headshotpro'::regnamespace
    union all
    select format('view %s %s', viewname, definition) from pg_views where schemaname = 'headshotpro'
    union all
    select format('revision %s', version_num) from headshotpro.alembic_version
"""


def picture(url: str) -> list[str]:
    return sorted(row["format"] for row in rows(url, PICTURE))


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    opened = database.connect(empty_database_url)
    yield opened
    opened.dispose()


def test_an_empty_database_gets_every_table(empty_database_url: str) -> None:
    assert schema.migrate(empty_database_url) == schema.newest()
    found = rows(empty_database_url, "select tablename from pg_tables where schemaname = 'headshotpro'")
    assert {row["tablename"] for row in found} >= TABLES


def test_nothing_is_made_outside_the_schema(database_url: str) -> None:
    query = (
        "select nspname, relname from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = 'public'"
    )
    assert rows(database_url, query) == []


def test_migrating_twice_changes_nothing_and_keeps_the_rows(database_url: str) -> None:
    before = picture(database_url)
    insert = "insert into headshotpro.models (id, observed_at, updated_at) values (%s, now(), now())"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(insert, [new_id()])
    assert schema.migrate(database_url) == schema.newest()
    assert picture(database_url) == before
    assert len(rows(database_url, "select id from headshotpro.models")) == 1


def test_several_migrators_at_once_take_turns(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PAUSE_SECONDS", 0.2)
    found: list[str] = []
    run_concurrently(*[lambda: found.append(schema.migrate(empty_database_url))] * 3)
    assert found == [schema.newest()] * 3


def test_tables_and_migrations_agree(database_url: str) -> None:
    schema.compare(database_url)


def test_every_table_and_every_column_has_a_comment(database_url: str) -> None:
    silent = """
        select c.relname, a.attname from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
        where c.relnamespace = 'headshotpro'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0
            and c.relname <> 'alembic_version'
            and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)
    """
    assert rows(database_url, silent) == []


def test_a_database_that_was_never_migrated_is_refused(engine: Engine) -> None:
    with pytest.raises(SchemaOutdated, match="headshot-mirror migrate"):
        revision.check(engine)


@pytest.mark.parametrize("older", [FIRST, None])
def test_older_revision_is_refused(empty_database_url: str, engine: Engine, older: str | None) -> None:
    message = f"revision {older or 'none'}, this code needs {NEWEST}: run `headshot"
    with made_up_revision():
        schema.migrate(empty_database_url)
        assert revision.check(engine) == NEWEST
        set_revision(empty_database_url, older)
        with pytest.raises(SchemaOutdated, match=message):
            revision.check(engine)


@pytest.mark.parametrize("unreleased", ["0001", "0010"])
def test_schema_from_before_the_first_release_is_refused(database_url: str, unreleased: str) -> None:
    engine = database.connect(database_url)
    set_revision(database_url, unreleased)
    before = picture(database_url)
    message = rf"^the schema is at revision {unreleased}, which was never released: drop it \(`DROP SCHEMA headshotpro "
    with pytest.raises(SchemaUnreleased, match=message):
        revision.check(engine)
    with pytest.raises(SchemaUnreleased, match=message):
        schema.migrate(database_url)
    assert picture(database_url) == before
    engine.dispose()


def test_a_newer_revision_is_fine_for_the_code_before_it(empty_database_url: str, engine: Engine) -> None:
    with made_up_revision():
        schema.migrate(empty_database_url)
    assert revision.check(engine) == NEWEST
    # A release that is rolled back migrates, too: there is nothing for it to do.
    before = picture(empty_database_url)
    assert schema.migrate(empty_database_url) == NEWEST
    assert picture(empty_database_url) == before


def set_revision(url: str, revision: str | None) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("delete from headshotpro.alembic_version")
        if revision:
            connection.execute("insert into headshotpro.alembic_version values (%s)", [revision])


def test_migrate_and_check_raise_when_postgres_is_unavailable(folder: Path) -> None:
    nobody = "postgresql://u:hunter2@127.0.0.1:9/d"
    with pytest.raises(PostgresUnavailable) as caught:
        schema.migrate(nobody)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(PostgresUnavailable):
        revision.check(database.connect(nobody))


def test_functions_of_merges_have_the_columns_of_code(database_url: str) -> None:
    made = "select proname, pg_get_functiondef(oid) from pg_proc where proname = any(%s) order by 1"
    names = [f"lock_models_{merged.FUNCTIONS}", f"write_merged_{merged.FUNCTIONS}"]
    with psycopg.connect(database_url) as connection:
        migrated = connection.execute(made, [names]).fetchall()
        for name in names:
            connection.execute(sql.SQL("drop function headshotpro.{}").format(sql.Identifier(name)))
        for statement in merge_functions.statements(merged.FUNCTIONS, merged.COLUMNS):
            connection.execute(statement.encode())
        assert connection.execute(made, [names]).fetchall() == migrated
        connection.rollback()


def test_released_functions_of_merges_stay_as_they_are() -> None:
    released = runpy.run_path(str(revision.location() / "versions/0017_merge_functions.py"))["COLUMNS"]
    text = "".join(merge_functions.statements(1, released))
    # A change takes functions with the next number: databases that have these keep them.
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == "076691ed131d18c1e16d0c8fd7c61ffc"
