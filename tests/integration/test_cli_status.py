"""`status` and the line of `up`, whichever servers and processes respond."""

from __future__ import annotations

import re
from datetime import datetime
from signal import SIGINT
from typing import TYPE_CHECKING

import psycopg

from service.alerts.problems import LocalUp
from service.config import Settings
from service.local.gauge import Gauge, describe
from service.local.running_system import SETTINGS_FILE, RunningSystem
from tests.support.cli import NO_POSTGRES, NO_REDIS
from tests.support.heartbeats import insert_heartbeat
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.cli import Cli

STATUS_KEYS = {
    "events_waiting", "oldest_waiting_seconds", "models", "last_complete_pull_at", "pull_age_seconds", "open_alerts",
    "missed_webhooks", "requests_left", "problems", "processes", "last_event_at", "late_webhooks", "lost_webhooks",
    "refused_deliveries",
}  # fmt: skip


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


def test_refused_signatures_show_the_last_right_one_meanwhile(cli: Cli, database_url: str) -> None:
    insert_heartbeat(database_url)

    def action() -> str:
        (problem,) = cli.run("status", "--json").document["problems"]
        return str(problem["action"])

    event = "insert into headshotpro.webhook_events (id, event, status, payload, received_at, processed_at) values "
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into headshotpro.alerts (kind, opened_at) values ('signatures_refused', now())")
        connection.execute(f"{event} ('before', 'e', 'applied', '{{}}', now() - interval '2 min', now())")
        assert action().startswith("no delivery with a right signature comes meanwhile: ")
        connection.execute(f"{event} ('after', 'e', 'applied', '{{}}', '2100-01-01 00:00:00Z', now())")
        assert action().startswith("deliveries with a right signature come, the last at 2100-01-01 00:00:00Z: ")


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
    assert (reading.applied, reading.rate, reading.waiting, reading.lag) == (None,) * 4
    assert reading.models is None
    assert "| - events applied, - a second, - waiting, lag - | - models |" in describe(reading, {})
