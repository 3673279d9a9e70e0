"""`migrate --sql`: what a DBA pipes into psql ends where `migrate` ends, from nothing and from each older revision."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from service.storage.migrations import schema
from tests.integration.test_schema import picture
from tests.support.system import rows
from tests.support.upgrades import FIRST, NEWEST, fill, made_up_revision, make, printed

if TYPE_CHECKING:
    from service.local.servers import Postgres
    from tests.support.cli import Cli

READABLE = """
    select format('%s %s %s', table_name, column_name, privilege_type) from information_schema.column_privileges
    where grantee = 'headshotpro_reader' and table_schema = 'headshotpro'
"""


def readable(url: str) -> list[str]:
    return sorted(row["format"] for row in rows(url, READABLE))


def pipe(server: Postgres, url: str, sql: str) -> subprocess.CompletedProcess[str]:
    """Pipe it into psql, as it comes: without an option."""
    psql = server.binary.program.with_name("psql")
    return subprocess.run([psql, "-qX", url], input=sql, capture_output=True, text=True, check=False, timeout=60)


def test_an_empty_database(postgres: Postgres, empty_database_url: str, database_url: str) -> None:
    done = pipe(postgres, empty_database_url, printed())
    assert (done.returncode, done.stderr) == (0, "")
    assert picture(empty_database_url) == picture(database_url)
    assert readable(empty_database_url) == readable(database_url)
    assert readable(database_url)
    # It is known as migrated, too.
    assert schema.migrate(empty_database_url) == schema.newest()


def test_full_database_of_the_first_revision_is_upgraded(
    postgres: Postgres, empty_database_url: str, database_url: str
) -> None:
    make(empty_database_url)
    fill(empty_database_url, 10)
    with made_up_revision():
        schema.migrate(database_url)
        done = pipe(postgres, empty_database_url, schema.script(FIRST))
    assert (done.returncode, done.stderr) == (0, "")
    assert picture(empty_database_url) == picture(database_url)
    assert readable(empty_database_url) == readable(database_url)
    assert rows(empty_database_url, "select count(*) from headshotpro.models") == [{"count": 10}]


def test_script_for_another_revision_changes_nothing(postgres: Postgres, empty_database_url: str) -> None:
    make(empty_database_url)
    before = picture(empty_database_url)
    with made_up_revision():
        done = pipe(postgres, empty_database_url, schema.script(NEWEST))
    assert done.returncode == 3
    assert f"goes on from revision {NEWEST}, the schema is at {FIRST}: print it anew" in done.stderr
    assert picture(empty_database_url) == before


def test_it_does_not_run_beside_another_migration(postgres: Postgres, empty_database_url: str) -> None:
    make(empty_database_url)
    before = picture(empty_database_url)
    holding = f"begin; select pg_advisory_xact_lock({schema.MIGRATION_LOCK});\n"
    psql = [postgres.binary.program.with_name("psql"), "-qX", empty_database_url]
    with subprocess.Popen(psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(holding)
        other.stdin.flush()
        assert other.stdout.readline()
        done = pipe(postgres, empty_database_url, schema.script(FIRST))
        other.stdin.close()
    assert done.returncode == 3
    assert "another migration is running" in done.stderr
    assert picture(empty_database_url) == before


@pytest.mark.parametrize("options", [("--from", FIRST), ("--sql", "--from", "0003")])
def test_what_cannot_be_meant_is_wrong_usage(cli: Cli, options: tuple[str, ...]) -> None:
    assert cli.run("migrate", *options).status == 2
