"""The command line: what each command prints, for people and as JSON, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from service.cli.commands import COMMANDS
from service.cli.commands import cli as group
from service.errors import PostgresUnavailable
from service.storage import database
from service.storage.migrations import revision, schema
from tests.integration.test_schema import set_revision
from tests.support.cli import NO_POSTGRES, NO_REDIS, one_line
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cli import Cli


def commands(parent: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group below a group, with the words that call it."""
    context = click.Context(parent)
    for name in parent.list_commands(context):
        command = parent.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


# --- help and usage


def test_every_command_explains_itself_with_an_example() -> None:
    found = dict(commands(group))
    assert {path[0] for path in found} == set(COMMANDS)
    for path in ((), *found):
        done = CliRunner().invoke(group, [*path, "--help"])
        assert done.exit_code == 0, path
        example = re.search(r"Examples?:\s+.*headshot-mirror( [a-z]+)*", done.output)
        assert example, done.output
        assert " ".join(path) in example[0]


def test_help_loads_neither_databases_nor_servers() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from service.cli.commands import COMMANDS, cli\n"
        "for name in COMMANDS: assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0\n"
        "print({'sqlalchemy', 'psycopg', 'redis', 'rq', 'flask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("arguments", [["unheard-of"], ["pull", "--unheard-of"], ["events", "show"], ["pulls"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(group, arguments).exit_code == 2


def test_missing_or_malformed_setting_exits_2_with_one_line(cli: Cli) -> None:
    one_line(cli.run("pull", REDIS_URL=None), 2, "REDIS_URL is missing")
    one_line(cli.run("events", "list", DATABASE_URL=""), 2, "DATABASE_URL is missing")
    one_line(cli.run("status", DATABASE_URL="mysql://me:hidden@here/db"), 2, "DATABASE_URL is malformed")
    one_line(cli.run("status", REDIS_URL="redis://:hidden@here/0?timeout=2"), 2, "REDIS_URL is malformed")
    one_line(cli.run("migrate", PULL_INTERVAL_SECONDS="soon"), 2, "PULL_INTERVAL_SECONDS is malformed")


def test_a_server_that_is_gone_ends_with_1_and_one_line(cli: Cli) -> None:
    one_line(cli.run("pulls", "list", DATABASE_URL=NO_POSTGRES), 1, "Postgres cannot be reached")
    one_line(cli.run("migrate", DATABASE_URL=NO_POSTGRES), 1, "Postgres cannot be reached")
    one_line(cli.run("pull", REDIS_URL=NO_REDIS), 1, "Redis cannot be reached")


def test_database_without_schema_exits_1_and_says_to_migrate(cli: Cli, empty_database_url: str) -> None:
    for command in ("pulls list", "pulls reject 1", "events list", "events show evt_1", "models show x"):
        done = cli.run(*command.split(), DATABASE_URL=empty_database_url)
        one_line(done, 1, "run `headshot-mirror migrate`")
    pull = cli.run("pull", DATABASE_URL=empty_database_url)
    one_line(pull, 1, "run `headshot-mirror migrate`")


NEVER_RELEASED = (
    "the schema is at revision 0010, which was never released: drop it (`DROP SCHEMA headshotpro CASCADE`; "
    "of `up`: delete its folder), then run `headshot-mirror migrate` and `headshot-mirror pull --full`"
)


def test_schema_never_released_ends_with_1_and_says_what_to_do(cli: Cli, database_url: str) -> None:
    set_revision(database_url, "0010")
    message = NEVER_RELEASED
    for command in ("migrate", "pulls list"):
        one_line(cli.run(*command.split(), DATABASE_URL=database_url), 1, message)
    for command in ("web", "pull"):
        done = cli.run(command, DATABASE_URL=database_url, PORT=str(free_port()))
        assert (done.status, message in done.err) == (1, True), done
    status = cli.run("status", DATABASE_URL=database_url)
    assert (status.status, status.out.startswith(f"PROBLEM: {message}")) == (1, True), status.out
    doctor = cli.run("doctor", DATABASE_URL=database_url)
    assert doctor.status == 1
    assert f"BAD  schema                     {message}" in doctor.out
    assert "→ drop it (`DROP SCHEMA headshotpro CASCADE`; of `up`: delete its folder), then run" in doctor.out


@pytest.mark.long
@pytest.mark.parametrize("command", ["worker", "clock"])
def test_schema_never_released_ends_each_process(cli: Cli, database_url: str, command: str) -> None:
    set_revision(database_url, "0010")
    done = cli.finish(cli.start(command, DATABASE_URL=database_url))
    assert (done.status, NEVER_RELEASED in done.err) == (1, True), done


# --- migrate


def test_concurrent_migrates_bring_empty_database_to_newest(cli: Cli, empty_database_url: str) -> None:
    # Two at once, as two releases may run it: one works, the other waits.
    both = [cli.start("migrate", DATABASE_URL=empty_database_url) for _ in range(2)]
    for process in both:
        done = cli.finish(process)
        assert (done.status, done.out) == (0, f"The schema is at revision {schema.newest()}.\n"), done
    assert revision.check(database.connect(empty_database_url)) == schema.newest()


def test_misspelt_setting_is_named_in_a_warning_and_work_goes_on(cli: Cli) -> None:
    done = cli.run("events", "list", HEADSHOTPRO_APIKEY="hidden")
    assert done.status == 0
    assert done.err == (
        "headshot-mirror: warning: HEADSHOTPRO_APIKEY is no setting and is ignored: did you mean HEADSHOTPRO_API_KEY?\n"
    )


def test_busy_pool_is_reported_in_our_own_words(database_url: str) -> None:
    engine = database.connect(database_url, pool_size=1, overflow=0, pool_timeout=0.1)
    with database.transaction(engine), pytest.raises(PostgresUnavailable) as found, database.transaction(engine):
        pass
    assert str(found.value) == ("Postgres cannot be reached or gave up: every connection of this process waits for it")
