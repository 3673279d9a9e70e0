"""`headshot-mirror doctor`: it finds each fault of a deployment and says what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from tests.support.cli import Cli
from tests.support.heartbeats import insert_heartbeat

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Valkey
    from tests.support.mirror import StartMirror

Finding = dict[str, Any]


def examine(cli: Cli, **settings: str | None) -> tuple[int, dict[str, Finding]]:
    """The exit status, and what was wrong, by what was looked at."""
    done = cli.run("doctor", "--json", **settings)
    findings: list[Finding] = done.document
    assert all(finding.keys() == {"check", "ok", "seen", "advice"} for finding in findings)
    assert all(finding["ok"] or finding["advice"] for finding in findings)
    assert cli.leaks() == []
    return done.status, {finding["check"]: finding for finding in findings if not finding["ok"]}


def test_a_healthy_deployment_has_no_fault(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    cli = Cli(folder, **here.variables)
    assert examine(cli) == (0, {})
    plain = cli.run("doctor")
    assert plain.status == 0
    checks = [line.split()[1] for line in plain.out.splitlines() if "→" not in line]
    assert {"postgres", "schema", "redis", "api", "upstream", "webhook"} <= set(checks)
    marks = {line.split()[1]: line.split()[0] for line in plain.out.splitlines() if "→" not in line}
    assert {check for check, mark in marks.items() if mark != "ok"} == {"ALERT_URLS", "MIRROR_API_KEYS"}
    assert marks["ALERT_URLS"] == marks["MIRROR_API_KEYS"] == "hint"
    set_ones = {"ALERT_URLS": "json://127.0.0.1", "MIRROR_API_KEYS": "5e" * 16}
    assert "hint PUBLIC_URL" in cli.run("doctor", **set_ones).out
    assert "hint" not in cli.run("doctor", **set_ones, PUBLIC_URL="https://mirror.example").out


def test_mirror_that_only_pulls_has_a_hint_and_no_fault(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    done = Cli(folder, **here.variables).run("doctor", HEADSHOTPRO_WEBHOOK_SECRET=None)
    assert done.status == 0
    (hint,) = [line for line in done.out.splitlines() if "HEADSHOTPRO_WEBHOOK_SECRET missing" in line]
    assert hint.startswith("hint")
    assert "follows by pulls alone" in hint


def test_doctor_names_each_redis_key_of_a_wrong_type(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    here.runtime.redis.set("headshotpro:stale_models", "by hand")
    here.runtime.redis.rpush("headshotpro:counters", "by hand")
    here.runtime.redis.set("headshotpro:budget:accuracy", "by hand")
    findings = Cli(folder, **here.variables).run("doctor", "--json").document
    assert [(one["seen"], one["advice"]) for one in findings if one["check"] == "redis key"] == [
        (f"headshotpro:{name} is a {found}, and has to be a {wanted}",
         f"find out which program wrote it, then run `redis-cli del headshotpro:{name}`")
        for name, found, wanted in (
            ("stale_models", "string", "set"), ("counters", "list", "hash"), ("budget:accuracy", "string", "zset"),
        )
    ]  # fmt: skip


def test_postgres_that_only_reads_is_a_problem(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    cli = Cli(folder, **here.variables)
    url = here.variables["DATABASE_URL"]
    only_reads = f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"
    status, found = examine(cli, DATABASE_URL=only_reads)
    assert (status, "takes no writes" in found["postgres"]["seen"]) == (1, True)
    told = cli.run("status", "--json", DATABASE_URL=only_reads)
    assert told.status == 1
    assert [problem["code"] for problem in told.document["problems"]] == ["postgres_unavailable"]


def test_what_is_missing_outdated_or_refused_is_found(
    mirror: StartMirror, folder: Path, empty_database_url: str, own_valkey: Valkey
) -> None:
    with redis.Redis.from_url(own_valkey.url) as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
    cli = Cli(folder, **mirror().variables)
    faults = {
        "HEADSHOTPRO_API_KEY": "revoked",
        "DATABASE_URL": empty_database_url,
        "REDIS_URL": own_valkey.url,
    }
    status, found = examine(cli, **faults)
    assert status == 1
    assert found.keys() == {"schema", "redis", "api key"}
    assert "headshot-mirror migrate" in found["schema"]["advice"]
    assert "appendonly yes" in found["redis"]["advice"]
    assert "noeviction" in found["redis"]["advice"]
    assert "401" in found["api key"]["seen"]
    assert "HEADSHOTPRO_API_KEY" in found["api key"]["advice"]
    # The same as text for people.
    plain = cli.run("doctor", **faults)
    assert plain.status == 1
    bad = [line.split()[1] for line in plain.out.splitlines() if line.startswith("BAD")]
    assert bad == ["schema", "redis", "api"]
    # Two more are hints.
    assert plain.out.count("→") == 5


def test_doctor_finds_unavailable_servers_and_malformed_secrets(cli: Cli) -> None:
    status, found = examine(
        cli,
        DATABASE_URL="postgresql://somebody:hidden@127.0.0.1:9/nothing",
        REDIS_URL="redis://:hidden@127.0.0.1:9/0",
        HEADSHOTPRO_WEBHOOK_SECRET=f"{'5e' * 32},c0ffee",
    )
    assert status == 1
    assert found.keys() == {"postgres", "redis", "upstream", "webhook secret 2"}
    assert "DATABASE_URL" in found["postgres"]["advice"]
    assert "REDIS_URL" in found["redis"]["advice"]
    assert "127.0.0.1:9/api/v2" in found["upstream"]["advice"]
    assert "hidden" not in str(found)
    assert "c0ffee" not in str(found)


def test_short_keys_and_secrets_are_a_hint_and_no_fault(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    cli = Cli(folder, **here.variables)
    given = {"MIRROR_API_KEYS": "billing=hunter2,ro:c0ffee,long=" + "5e" * 16, "CONSOLE_PASSWORD": "hunter3"}
    done = cli.run("doctor", "--json", **given)
    (hint,) = [finding for finding in done.document if finding["check"] == "secrets"]
    assert (done.status, hint["ok"]) == (0, True)
    assert "key billing of MIRROR_API_KEYS, key #2 of MIRROR_API_KEYS, CONSOLE_PASSWORD" in hint["seen"]
    assert "long" not in hint["seen"]
    assert hint["advice"]
    plain = cli.run("doctor", **given)
    assert "under 16 characters" in plain.out
    for word in ("hunter", "c0ffee"):
        assert word not in plain.out + done.out


def test_a_clock_that_is_off_is_found(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    here.set_switches(skew=60)
    status, found = examine(Cli(folder, **here.variables))
    assert status == 1
    assert found.keys() == {"upstream clock"}
    assert "NTP" in found["upstream clock"]["advice"]


def test_dead_worker_is_found_beside_all_that_is_well(mirror: StartMirror, folder: Path) -> None:
    here = mirror()
    insert_heartbeat(here.variables["DATABASE_URL"])
    insert_heartbeat(here.variables["DATABASE_URL"], "worker", seconds_ago=30)
    status, found = examine(Cli(folder, **here.variables))
    assert status == 1
    assert found.keys() == {"worker_missing"}
    assert found["worker_missing"]["seen"].startswith("no worker seen for 3")
    assert "headshot-mirror worker" in found["worker_missing"]["advice"]


def test_a_malformed_setting_ends_with_2(cli: Cli) -> None:
    done = cli.run("doctor", RATE_BUDGET="2")
    assert (done.status, done.out) == (2, "")
    assert "RATE_BUDGET is malformed" in done.err
