"""The Procfile under a runner of Procfiles (honcho), and the image's health check beside it."""

from __future__ import annotations

import subprocess
import sys
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from service.config import environment
from service.parent_death import die_with_parent
from tests.support.dockerfile import only
from tests.support.ports import free_port
from tests.support.processes import eventually, processes_in
from tests.support.system import (
    API_KEY,
    NOWHERE,
    PROGRAMS,
    ROOT,
    SECRET,
    WEBHOOK_PATH,
    event_body,
    model_row,
    new_id,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HONCHO = [sys.executable, "-m", "honcho", "--no-colour", "-f", ROOT / "Procfile"]


class Runner:
    """A runner that has carried out `release` and keeps the other three running.

    Attributes:
        port: where its web listens: a runner sets PORT for each process.
        database_url: of the mirror.
        log: what all of them print.
    """

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.port = free_port()
        self.database_url = database_url
        self.log = folder / "log"
        settings: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "WEB_CONCURRENCY": "1"}
        vendor = {"HEADSHOTPRO_API_URL": NOWHERE, "HEADSHOTPRO_API_KEY": API_KEY, "HEADSHOTPRO_WEBHOOK_SECRET": SECRET}
        found = f"{PROGRAMS}:{environment().get('PATH', '')}"
        self._options: dict[str, Any] = {"cwd": folder, "env": environment(PATH=found, **settings, **vendor)}
        command = [*HONCHO, "-d", folder]
        subprocess.run([*command, "start", "release"], **self._options, check=True, capture_output=True)
        with self.log.open("wb") as output:
            start = die_with_parent([*command, "start", "-p", str(self.port), "web", "worker", "clock"], SIGTERM)
            self.process = subprocess.Popen(start, **self._options, stdout=output, stderr=output)

    def health(self, port: int) -> int:
        """The exit status of the image's health check, as Docker would run it."""
        program, *words = only("HEALTHCHECK").words
        assert program == "python"
        checked = subprocess.run(
            [sys.executable, *words], env=environment(PORT=str(port)), capture_output=True, check=False
        )
        return checked.returncode


@pytest.fixture
def runner(folder: Path, empty_database_url: str, redis_url: str) -> Iterator[Runner]:
    started = Runner(folder, empty_database_url, redis_url)
    yield started
    started.process.terminate()
    started.process.wait(20)


@pytest.mark.long
def test_a_runner_keeps_the_mirror_running_and_ends_it(runner: Runner, folder: Path) -> None:
    assert eventually(lambda: runner.health(runner.port) == 0), runner.log.read_text()
    assert runner.health(free_port()) != 0
    model = new_id()
    body = event_body(model)
    url = f"http://127.0.0.1:{runner.port}{WEBHOOK_PATH}"
    assert urllib3.request("POST", url, body=body, headers=signed(body), retries=False).status == 202
    assert eventually(lambda: model_row(runner.database_url, model)), runner.log.read_text()
    runner.process.terminate()
    runner.process.wait(20)
    assert eventually(lambda: not processes_in(folder)), runner.log.read_text()
    said = runner.log.read_text()
    assert "Traceback" not in said
    # The runner kills who does not end when asked.
    assert "SIGKILL" not in said
