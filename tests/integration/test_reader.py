"""The role for dashboards: what it may read, what it may not, and who makes it."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.storage.migrations import schema
from service.storage.reader import READABLE_TABLES, READER_ROLE
from tests.support.system import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

VIEWS = ("mirror_status", "live_models", "failed_models", "status_durations", "daily_outcomes")


@contextmanager
def as_reader(url: str) -> Iterator[psycopg.Connection]:
    """A connection with the reader's rights alone."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"set role {READER_ROLE}".encode())
        yield connection


def may_read(url: str, relation: str) -> bool:
    with as_reader(url) as connection:
        try:
            connection.execute(f"select * from headshotpro.{relation}".encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def test_it_reads_what_is_published_and_nothing_else(database_url: str) -> None:
    tables = rows(database_url, "select tablename as name from pg_tables where schemaname = 'headshotpro'")
    readable = {row["name"] for row in tables if may_read(database_url, row["name"])}
    # Of these two not every column.
    assert readable == {table.name for table in READABLE_TABLES} - {"webhook_events", "subscriptions"}
    assert all(may_read(database_url, view) for view in VIEWS)
    with as_reader(database_url) as connection:
        connection.execute("select * from headshotpro.model_as_of('nobody', now())")


@pytest.mark.parametrize(
    ("table", "hidden"),
    [("webhook_events", {"payload"}), ("subscriptions", {"secret", "previous_secret"})],
)
def test_it_reads_every_column_but_payloads_and_secrets(database_url: str, table: str, hidden: set[str]) -> None:
    query = """
        select column_name as name,
            has_column_privilege('headshotpro_reader', %s::regclass, column_name, 'select') as readable
        from information_schema.columns where table_schema = 'headshotpro' and table_name = %s
    """
    found = rows(database_url, query, f"headshotpro.{table}", table)
    assert {row["name"] for row in found if not row["readable"]} == hidden


def test_it_writes_nothing_and_cannot_log_in(database_url: str) -> None:
    (role,) = rows(database_url, "select rolcanlogin, rolsuper from pg_roles where rolname = 'headshotpro_reader'")
    assert role == {"rolcanlogin": False, "rolsuper": False}
    with as_reader(database_url) as connection:
        for statement in ("delete from headshotpro.models", "update headshotpro.live_models set title = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_migrate_grants_new_views_to_the_reader_but_no_tables(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("create view headshotpro.later_view as select 1 as one")
        connection.execute("create table headshotpro.later_table (body text)")
    assert not may_read(database_url, "later_view")
    schema.migrate(database_url)
    assert may_read(database_url, "later_view")
    # A new table is private until it is published.
    assert not may_read(database_url, "later_table")


def test_migrate_reports_a_missing_role_and_grants_to_it_later(own_postgres: Postgres) -> None:
    password = secrets.token_hex(8)
    owner = f"postgresql://app:{password}@127.0.0.1:{own_postgres.port}/headshotpro"
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute(f"create role app login password '{password}'".encode())
        connection.execute("grant create on database headshotpro to app")
    told: list[str] = []
    schema.migrate(owner, told.append)
    assert len(told) == 1
    assert "headshotpro_reader was not made" in told[0]
    assert "\n" not in told[0]
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute("create role headshotpro_reader nologin")
    assert not may_read(own_postgres.url, "models")
    schema.migrate(owner, told.append)
    assert len(told) == 1
    assert may_read(own_postgres.url, "models")
    assert may_read(own_postgres.url, "daily_outcomes")


def test_a_user_who_does_not_own_the_schema_is_told(own_migrated_postgres: Postgres) -> None:
    with psycopg.connect(own_migrated_postgres.url, autocommit=True) as connection:
        connection.execute("revoke select on headshotpro.failed_models, headshotpro.models from headshotpro_reader")
    other = f"postgresql://other:pw@127.0.0.1:{own_migrated_postgres.port}/headshotpro"
    with psycopg.connect(own_migrated_postgres.url, autocommit=True) as connection:
        connection.execute("create role other login password 'pw'")
        connection.execute("grant usage on schema headshotpro to other")
        connection.execute("grant select, insert, update, delete on all tables in schema headshotpro to other")
    told: list[str] = []
    assert schema.migrate(other, told.append) == schema.newest()
    assert len(told) == 1
    assert "may not read failed_models, models; the schema's owner" in told[0]
