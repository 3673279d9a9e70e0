"""Processes of the Procfile that cannot start: a wrong setting, or a schema that does not fit."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from service.config import environment
from tests.support.ports import free_port
from tests.support.system import procfile

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = {
    "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:9/d",
    "REDIS_URL": "redis://:hunter2@127.0.0.1:9/0",
    "HEADSHOTPRO_API_KEY": "hunter2",
    "HEADSHOTPRO_WEBHOOK_SECRET": "hunter2",
}


def run(role: str, folder: Path, **settings: str | None) -> subprocess.CompletedProcess[str]:
    """A process that is expected to end by itself."""
    everything_else: dict[str, str | None] = {f"{name}_FILE": None for name in SERVERS}
    return subprocess.run(
        procfile()[role],
        env=environment(**{**everything_else, **SERVERS, "PORT": None, **settings}),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("role", "name", "value"),
    [
        pytest.param("web", "HEADSHOTPRO_WEBHOOK_SECRET", ",", marks=pytest.mark.long),
        ("web", "REDIS_URL", "http://:hunter2@h"),
        ("worker", "HEADSHOTPRO_API_KEY", None),
        pytest.param(
            "worker", "DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:9/d?pgbouncer=true", marks=pytest.mark.long
        ),
        pytest.param("web", "REDIS_URL", "redis://:hunter2@127.0.0.1:9/0?socket_timeout=soon", marks=pytest.mark.long),
        ("worker", "REDIS_URL", "rediss://:hunter2@127.0.0.1:9/0?ssl_cert_reqs=maybe"),
        pytest.param("clock", "REDIS_URL", "redis://:hunter2@127.0.0.1:9/0?hunter2=1", marks=pytest.mark.long),
        pytest.param("clock", "REDIS_URL", "", marks=pytest.mark.long),
        ("clock", "PULL_INTERVAL_SECONDS", "soon"),
        ("release", "DATABASE_URL", None),
        pytest.param(
            "release", "DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:9/d?sslmode=always", marks=pytest.mark.long
        ),
    ],
)
def test_wrong_setting_ends_a_process_with_one_line_naming_it(
    folder: Path, role: str, name: str, value: str | None
) -> None:
    done = run(role, folder, **{name: value})
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert name in line
    assert "hunter2" not in line


@pytest.mark.parametrize("role", ["web", "worker", pytest.param("clock", marks=pytest.mark.long)])
def test_a_schema_that_is_too_old_ends_a_process(folder: Path, role: str, empty_database_url: str) -> None:
    # web listens for a moment before it knows the schema.
    done = run(role, folder, DATABASE_URL=empty_database_url, PORT=str(free_port()))
    assert done.returncode == 1
    start, line = done.stderr.splitlines()
    assert json.loads(start)["event"] == f"{role}.starts"
    assert "headshot-mirror migrate" in line


def test_release_can_repeat_and_reports_failure_in_one_line(folder: Path, empty_database_url: str) -> None:
    first, second = [run("release", folder, DATABASE_URL=empty_database_url) for _ in range(2)]
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout != ""
    refused = run("release", folder)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "Postgres" in line
    assert "hunter2" not in line
