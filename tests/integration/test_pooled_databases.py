"""The databases of tests: one that served a test is as empty as a new one, or serves no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.databases import Databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

INSERT = "insert into headshotpro.models (id, observed_at, updated_at) values ('m', now(), now())"
CHANGE = (
    "insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at) "
    "values ('m', '{}', 'pull', now(), now()) returning id"
)

WRITTEN_BY_MIGRATIONS = """
    select array(select version_num from headshotpro.alembic_version),
        array(select e from headshotpro.alert_evaluator e),
        (select count(*) from headshotpro.models)
"""
GROWTH = """
    insert into headshotpro.models (id, title, observed_at, updated_at)
    select n::text, repeat('x', 1000), now(), now() from generate_series(1, 5000) as n
"""


@pytest.fixture
def databases(postgres: Postgres) -> Iterator[Databases]:
    pool = Databases(postgres)
    yield pool
    pool.close()


def execute(postgres: Postgres, name: str, *queries: str) -> list[tuple[object, ...]]:
    """The rows of the last query."""
    with psycopg.connect(postgres.url_of(name), autocommit=True) as connection:
        for query in queries:
            cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def oid(postgres: Postgres, name: str) -> object:
    return execute(postgres, name, "select oid from pg_database where datname = current_database()")


def test_next_test_gets_the_same_database_without_rows(postgres: Postgres, databases: Databases) -> None:
    first = databases.take()
    used = oid(postgres, first)
    before = execute(postgres, first, WRITTEN_BY_MIGRATIONS)
    ids = execute(postgres, first, "update headshotpro.alert_evaluator set observing_since = now()", INSERT, CHANGE)
    databases.release(first)
    second = databases.take()
    assert (oid(postgres, second), execute(postgres, second, WRITTEN_BY_MIGRATIONS)) == (used, before)
    # The numbers of rows begin anew, too.
    assert execute(postgres, second, INSERT, CHANGE) == ids
    databases.release(second)


def test_connection_of_an_earlier_test_reaches_no_database(postgres: Postgres, databases: Databases) -> None:
    name = databases.take()
    with psycopg.connect(postgres.url_of(name), autocommit=True) as left:
        databases.release(name)
        with pytest.raises(psycopg.OperationalError):
            left.execute("select 1")
    databases.release(databases.take())
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url_of(name))


def test_database_that_is_kept_has_a_name_of_its_own(postgres: Postgres, databases: Databases) -> None:
    name = databases.take()
    databases.release(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url_of(name))


@pytest.mark.parametrize(
    "change",
    [
        "create table headshotpro.mine (id int)",
        "alter table headshotpro.models add check (title <> 'no')",
        "drop function headshotpro.model_as_of",
        "grant select on headshotpro.models to public",
        "create schema mine",
        "do $$ begin execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$",
        "do $$ begin execute format('alter database %I connection limit 5', current_database()); end $$",
        "analyze headshotpro.alert_evaluator",
        GROWTH,
    ],
)
def test_database_that_differs_in_more_than_rows_is_dropped(
    postgres: Postgres, databases: Databases, change: str
) -> None:
    name = databases.take()
    used = oid(postgres, name)
    execute(postgres, name, change)
    databases.release(name)
    other = databases.take()
    assert oid(postgres, other) != used
    databases.release(other)
