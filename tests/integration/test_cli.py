"""The command line: what each command prints, for people and as JSON, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime, timedelta
from signal import SIGINT
from typing import TYPE_CHECKING, Any

import click
import psycopg
import pytest
from click.testing import CliRunner

from service.alerts.problems import LocalUp
from service.cli import COMMANDS
from service.cli import cli as group
from service.config import Settings
from service.errors import PostgresUnavailable
from service.local.gauge import Gauge, describe
from service.local.running_system import SETTINGS_FILE, RunningSystem
from service.local.servers import free_port
from service.storage import database
from service.storage.migrations import revision, schema
from tests.integration.test_schema import set_revision
from tests.support.heartbeats import insert_heartbeat
from tests.support.system import event_body, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cli import Cli, CommandResult

NO_POSTGRES = "postgresql://somebody:hidden@127.0.0.1:9/nothing"
NO_REDIS = "redis://:hidden@127.0.0.1:9/0"

PULL_KEYS = {
    "id", "kind", "status", "started_at", "finished_at", "requests", "pages", "models_seen", "inserted", "changed",
    "tombstoned", "missed_webhooks", "late_webhooks", "lost_webhooks", "rows_compared", "rows_differed", "error",
}  # fmt: skip
EVENT_KEYS = {
    "id", "event", "model_id", "status", "error", "created_at", "received_at", "processed_at", "deliveries",
}  # fmt: skip
STATUS_KEYS = {
    "events_waiting", "oldest_waiting_seconds", "models", "last_complete_pull_at", "pull_age_seconds", "open_alerts",
    "missed_webhooks", "requests_left", "problems", "processes", "last_event_at", "late_webhooks", "lost_webhooks",
    "refused_deliveries",
}  # fmt: skip


def one_line(done: CommandResult, status: int, *words: str) -> None:
    """Assert that a command ended with a status and one line that says why."""
    assert done.status == status, done
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    for word in ("headshot-mirror: ", *words):
        assert word in done.err


def assert_times(document: Any) -> None:
    """Assert that every time in a document is ISO 8601 with its zone, or null."""
    if isinstance(document, list):
        for part in document:
            assert_times(part)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name.endswith("_at") and value is not None:
                assert datetime.fromisoformat(value).utcoffset() == timedelta(0)


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
        "from service.cli import COMMANDS, cli\n"
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


# --- lists


@pytest.fixture
def two_pulls(database_url: str) -> None:
    """A full pull that is complete, and a hot one that failed."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.pulls (kind, status, started_at, finished_at, requests, error) values "
            "('full', 'complete', now() - interval '90 s', now() - interval '60 s', 54, null), "
            "('hot', 'failed', now(), null, 5, 'the upstream refused: 401 UNAUTHORIZED')"
        )


def test_pulls_are_listed_newest_first(cli: Cli, two_pulls: None) -> None:
    done = cli.run("pulls", "list", "--json")
    assert done.status == 0
    assert [row["kind"] for row in done.document] == ["hot", "full"]
    assert all(row.keys() >= PULL_KEYS for row in done.document)
    assert_times(done.document)
    assert done.document[0]["finished_at"] is None
    assert done.document[1]["requests"] == 54
    assert [row["kind"] for row in cli.run("pulls", "list", "--json", "--kind", "full").document] == ["full"]
    header, first, second = cli.run("pulls", "list").out.splitlines()
    assert header.split()[:4] == ["id", "kind", "status", "started_at"]
    assert "the upstream refused: 401 UNAUTHORIZED" in first
    assert "complete" in second


@pytest.fixture
def two_events(database_url: str) -> None:
    """An event that was applied, and one that is dead."""
    body = event_body("507f1f77bcf86cd799439011", title="Zoë").decode()
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.webhook_events "
            "(id, event, model_id, status, error, payload, created_at, received_at, processed_at, deliveries) values "
            "('evt_1', 'model.created', '507f1f77bcf86cd799439011', 'applied', null, %s, now(), now(), now(), 2), "
            "('evt_2', 'model.created', null, 'dead', 'no time', '{}', null, now() - interval '1 s', now(), 1)",
            [body],
        )


def test_events_are_listed_newest_first(cli: Cli, two_events: None) -> None:
    done = cli.run("events", "list", "--json")
    assert done.status == 0
    assert [row["id"] for row in done.document] == ["evt_1", "evt_2"]
    assert all(row.keys() == EVENT_KEYS for row in done.document)
    assert_times(done.document)
    assert done.document[1]["created_at"] is None
    assert [row["id"] for row in cli.run("events", "list", "--json", "--status", "dead").document] == ["evt_2"]
    about = cli.run("events", "list", "--model", "507f1f77bcf86cd799439011").out
    assert "evt_1" in about
    assert "evt_2" not in about


def test_events_are_chosen_by_how_long_ago_they_came(cli: Cli, two_events: None, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update headshotpro.webhook_events set received_at = now() - interval '2 h' where id = 'evt_2'"
        )
    assert [row["id"] for row in cli.run("events", "list", "--json", "--since", "1h").document] == ["evt_1"]
    assert [row["id"] for row in cli.run("events", "list", "--json", "--until", "90m").document] == ["evt_2"]
    assert cli.run("events", "list", "--until", "2020-01-01").out == "No events.\n"
    for act in ("list", "replay"):
        misspelt = cli.run("events", act, "--event", "model.delted")
        assert (misspelt.status, misspelt.out) == (0, "No events.\n")
        assert "no event model.delted; it has model.created" in misspelt.err
    for wrong in ("soon", "999999999w"):
        refused = cli.run("events", "list", "--since", wrong)
        assert (refused.status, "or how long ago: 90s, 15m, 1h, 2d" in refused.err) == (2, True)
    assert cli.run("models", "list", "--created-after", "1h").out == "No models.\n"


def test_an_event_is_shown_with_its_body(cli: Cli, two_events: None) -> None:
    done = cli.run("events", "show", "evt_1", "--json")
    assert done.document.keys() == {*EVENT_KEYS, "payload", "signed_at", "delivery_ids"}
    assert done.document["payload"]["object"]["title"] == "Zoë"
    assert_times(done.document)
    plain = cli.run("events", "show", "evt_1").out
    assert re.search(r"^deliveries +2$", plain, re.MULTILINE)
    assert '"title": "Zoë"' in plain
    one_line(cli.run("events", "show", "evt_none"), 1, "there is no event evt_none", "events list")


# --- status


def test_status_tells_how_fresh_the_mirror_is(cli: Cli, database_url: str, two_pulls: None, two_events: None) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.models (id, status, observed_at, updated_at) values "
            "('a', 'active', now(), now()), ('b', 'active', now(), now()), ('c', null, now(), now())"
        )
        connection.execute(
            "insert into headshotpro.event_spool (body, signed_at, received_at) "
            "values ('x', 1, now() - interval '30 s')"
        )
    insert_heartbeat(database_url)
    told = cli.run("status", "--json").document
    assert told.keys() >= STATUS_KEYS
    assert told["models"] == {"active": 2, "unknown": 1}
    assert told["events_waiting"] == 1
    assert 30 <= told["oldest_waiting_seconds"] < 90
    assert 60 <= told["pull_age_seconds"] < 120
    (pull,) = rows(database_url, "select finished_at from headshotpro.pulls where kind = 'full'")
    assert datetime.fromisoformat(told["last_complete_pull_at"]) == pull["finished_at"]
    assert datetime.fromisoformat(told["last_event_at"])
    assert told["requests_left"] == 240
    assert told["refused_deliveries"] == 0
    assert told["late_webhooks"] == told["lost_webhooks"] == told["missed_webhooks"] == 0
    assert told["problems"] == []
    assert told["organization"] is None
    assert (told["last_event"]["id"], told["last_event"]["status"]) == ("evt_1", "applied")
    assert (told["last_pull"]["kind"], told["last_pull"]["status"]) == ("hot", "failed")
    assert [row["kind"] for row in told["processes"]] == ["clock", "web", "worker"]
    plain = cli.run("status")
    assert (plain.status, plain.err) == (0, "")
    assert plain.out.startswith("OK\n")
    assert re.search(r"^processes +1 clock, 1 web, 1 worker$", plain.out, re.MULTILINE)
    assert re.search(r"^models +2 active, 1 unknown$", plain.out, re.MULTILINE)
    assert re.search(r"^last_event +evt_1 model.created applied 2\d{3}-", plain.out, re.MULTILINE)
    assert re.search(r"^last_pull +\d+ hot failed .* the upstream refused: 401 UNAUTHORIZED$", plain.out, re.MULTILINE)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.organization (uid, name, recorded_at) values ('org_1', 'Initech', now())"
        )
    assert re.search(r"^organization +Initech \(org_1\)$", cli.run("status").out, re.MULTILINE)


def test_watched_status_is_shown_again_until_ctrl_c(cli: Cli, database_url: str) -> None:
    insert_heartbeat(database_url)
    process = cli.start("status", "--watch")
    assert process.stdout
    verdicts = 0
    while verdicts < 2:
        line = process.stdout.readline()
        assert line, "it ended by itself"
        verdicts += line == "OK\n"
    process.send_signal(SIGINT)
    assert process.wait(30) == 0
    assert process.stderr
    assert process.stderr.read() == ""


def test_status_of_a_new_mirror_has_nulls(cli: Cli) -> None:
    told = cli.run("status", "--json").document
    assert (told["models"], told["events_waiting"]) == ({}, 0)
    assert told["last_complete_pull_at"] is told["pull_age_seconds"] is told["oldest_waiting_seconds"] is None


def test_status_reports_what_it_can_when_a_server_is_gone(
    cli: Cli, database_url: str, two_pulls: None, empty_database_url: str
) -> None:
    insert_heartbeat(database_url)
    without_redis = cli.run("status", "--json", REDIS_URL=NO_REDIS)
    assert without_redis.status == 1
    assert without_redis.document["pull_age_seconds"] > 0
    assert without_redis.document["events_waiting"] is None
    (problem,) = without_redis.document["problems"]
    assert (problem["code"], "REDIS_URL" in problem["action"]) == ("redis_unavailable", True)

    without_postgres = cli.run("status", "--json", DATABASE_URL=NO_POSTGRES)
    assert without_postgres.status == 1
    assert without_postgres.document.keys() >= STATUS_KEYS
    assert without_postgres.document["models"] is without_postgres.document["processes"] is None
    assert without_postgres.document["requests_left"] == 240
    (problem,) = without_postgres.document["problems"]
    assert (problem["code"], "DATABASE_URL" in problem["action"]) == ("postgres_unavailable", True)

    plain = cli.run("status", DATABASE_URL=empty_database_url)
    assert plain.status == 1
    assert plain.out.startswith("PROBLEM: the schema is at revision none")
    assert "run `headshot-mirror migrate`" in plain.out

    neither = cli.run("status", DATABASE_URL=NO_POSTGRES, REDIS_URL=NO_REDIS)
    assert neither.status == 1
    assert re.match(r"PROBLEM: Postgres is unavailable: .*; Redis is unavailable: ", neither.out)
    document = cli.run("status", "--json", DATABASE_URL=NO_POSTGRES, REDIS_URL=NO_REDIS).document
    assert [problem["code"] for problem in document["problems"]] == ["postgres_unavailable", "redis_unavailable"]
    assert cli.leaks() == []


def test_status_names_what_is_missing_and_what_waits(cli: Cli, database_url: str, two_events: None) -> None:
    insert_heartbeat(database_url)
    insert_heartbeat(database_url, "worker", seconds_ago=25)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.event_spool (body, signed_at, received_at) values ('x', 1, now()), ('y', 1, now())"
        )
    done = cli.run("status")
    assert done.status == 1
    assert done.out.splitlines()[0] == "PROBLEM: no worker seen for 25 s; 2 events waiting"
    assert "start `headshot-mirror worker`" in done.out


def test_alert_is_a_problem_until_it_is_acknowledged(cli: Cli, database_url: str) -> None:
    insert_heartbeat(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.alerts (kind, model_id, opened_at) "
            "values ('pull_stale', null, now()), ('model_failed', 'm', now())"
        )
    document = cli.run("status", "--json").document
    assert [problem["code"] for problem in document["problems"]] == ["pull_stale"]
    assert document["open_alerts"] == 2
    assert cli.run("alerts", "ack", "--all").status == 0
    assert cli.run("status").status == 0


def test_misspelt_setting_is_named_in_a_warning_and_work_goes_on(cli: Cli) -> None:
    done = cli.run("events", "list", HEADSHOTPRO_APIKEY="hidden")
    assert done.status == 0
    assert done.err == (
        "headshot-mirror: warning: HEADSHOTPRO_APIKEY is no setting and is ignored: did you mean HEADSHOTPRO_API_KEY?\n"
    )


def test_up_line_shows_starting_until_the_first_pull_completes(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    insert_heartbeat(database_url, "web", "clock")
    (tmp_path / SETTINGS_FILE).touch()
    running = RunningSystem(tmp_path, {})
    gauge = Gauge(Settings(database_url=database_url, redis_url=redis_url), running.local_up)
    assert gauge.read().verdict == "starting"
    monkeypatch.setattr("service.local.running_system.START_SECONDS", 0)
    line = describe(gauge.read(), {"web": "runs", "worker": "ended"})
    assert "  PROBLEM: no worker is running | 0 events applied, 0.0 a second, 0 waiting" in line
    assert line.endswith("| worker ended")
    insert_heartbeat(database_url)
    assert gauge.read().verdict == "starting"
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
            "values ('full', 'complete', now(), now())"
        )
    reading = gauge.read()
    assert (reading.verdict, reading.pull_age is None) == ("OK", False)


def test_line_of_up_survives_servers_that_are_gone(database_url: str) -> None:
    gauge = Gauge(Settings(database_url=NO_POSTGRES, redis_url=NO_REDIS), lambda: LocalUp("folder", is_new=True))
    reading = gauge.read()
    assert reading.verdict.startswith("PROBLEM: Postgres is unavailable: ")
    assert (reading.applied, reading.waiting) == (None, None)
    assert "unknown events applied" in describe(reading, {})


def test_busy_pool_is_reported_in_our_own_words(database_url: str) -> None:
    engine = database.connect(database_url, pool_size=1, overflow=0, pool_timeout=0.1)
    with database.transaction(engine), pytest.raises(PostgresUnavailable) as found, database.transaction(engine):
        pass
    assert str(found.value) == ("Postgres cannot be reached or gave up: every connection of this process waits for it")
