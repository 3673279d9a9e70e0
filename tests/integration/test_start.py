"""A start imports what it needs, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service.config import environment
from tests.support.processes import descendants, eventually, suspended
from tests.support.system import SECRET, System, event_body, new_id, procfile

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Postgres

CLI = """
import sys
from service.cli.commands import run
try:
    run(sys.argv[1:])
except SystemExit:
    pass
print(sorted({"service.config", "apprise", "alembic", "flask", "gevent", "psycopg", "redis", "rich", "rq", "sqlalchemy",
    "structlog"} & set(sys.modules)), file=sys.stderr)
"""
SERVERS = {"DATABASE_URL": "postgresql://u@127.0.0.1:9/d", "REDIS_URL": "redis://127.0.0.1:9/0"}


def test_web_imports_its_application_once_for_all_processes(folder: Path, database_url: str, redis_url: str) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WEB_CONCURRENCY": "3",
        "ALERT_URLS": "json://127.0.0.1:9/",
        # Each process prints a line for each module that it imports.
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    with System(folder, **settings) as system:
        web = system.start("web")
        system.wait_for_web()
        assert system.deliver(event_body(new_id())).status == 202
        assert eventually(lambda: len(descendants(web.process.pid)) == 3), system.logs()
        imported = [
            line.rpartition("|")[2].strip() for line in web.said.splitlines() if line.startswith("import time:")
        ]
    wanted = (
        "service.web.app",
        "sqlalchemy",
        "psycopg",
        "redis",
        "flask",
        "gunicorn.arbiter",
        "service.cli",
    )
    assert {name: imported.count(name) for name in wanted} == dict.fromkeys(wanted, 1)
    assert {"alembic", "apprise"}.isdisjoint(imported)


def test_nothing_that_gevent_patches_is_bound_before_it_patches() -> None:
    # psycopg waits in C where it is loaded before gevent's patches: one hung Postgres would hold up every delivery.
    code = (
        "import sys, service.cli.processes, service.web.start; print({'psycopg', 'redis', 'flask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        ("--help", ["service.config"]),
        ("models list --help", ["service.config"]),
        # structlog, which counters log with, loads rich.
        ("status", ["psycopg", "redis", "rich", "service.config", "sqlalchemy", "structlog"]),
        ("models list --csv", ["psycopg", "service.config", "sqlalchemy"]),
        pytest.param("events show evt_1", ["psycopg", "service.config", "sqlalchemy"], marks=pytest.mark.long),
    ],
)
def test_a_command_imports_only_what_it_uses(arguments: str, imported: list[str]) -> None:
    command = [sys.executable, "-c", CLI, *arguments.split()]
    done = subprocess.run(command, env=environment(**SERVERS), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == str(imported)


def test_web_takes_deliveries_while_postgres_hangs(folder: Path, own_postgres: Postgres, redis_url: str) -> None:
    settings = {"DATABASE_URL": own_postgres.url, "REDIS_URL": redis_url}
    with System(folder, **settings) as system, suspended(own_postgres):
        system.start("web")
        system.wait_for_web()
        assert system.deliver(event_body(new_id())).status == 202


def test_nothing_of_a_killed_web_is_left(folder: Path, redis_url: str) -> None:
    with System(folder, DATABASE_URL=SERVERS["DATABASE_URL"], REDIS_URL=redis_url) as system:
        web = system.start("web")
        system.wait_for_web()
        assert len(children := descendants(web.process.pid)) == 1
        os.kill(web.process.pid, signal.SIGKILL)
        web.process.wait()
        assert eventually(lambda: not any(_alive(pid) for pid in children))


@pytest.mark.long
def test_malformed_alert_urls_end_web_before_it_listens(folder: Path) -> None:
    settings = {**SERVERS, "HEADSHOTPRO_WEBHOOK_SECRET": SECRET, "ALERT_URLS": "mailtoo://hunter2@example.com"}
    done = subprocess.run(
        procfile()["web"],
        env=environment(**settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == "headshot-mirror: ALERT_URLS is malformed: Apprise does not understand one of its URLs"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
