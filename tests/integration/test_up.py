"""`headshot-mirror up` as a user has it: one command in an empty folder, and what is left when it ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import urllib3

from service.config import SECRETS, environment
from service.local.servers.folder import locked
from service.parent_death import die_with_parent
from tests.support.ports import free_port
from tests.support.processes import eventually, processes_in
from tests.support.vendor import SandboxClient

# No births: the vendor's models are then known as soon as they are all in the mirror.
SMALL = ("--models", "40", "--births", "0", "--speed", "20")
# Nothing that the tests' own environment may hold.
NEUTRAL: dict[str, str | None] = {
    **{name: None for secret in SECRETS for name in (secret, f"{secret}_FILE")},
    "HEADSHOTPRO_API_URL": None,
    "PUBLIC_URL": None,
}
STARTED = "events applied"


class Vendor(NamedTuple):
    """The sandbox that `up` runs, as in its `sandbox.json`."""

    url: str
    api_key: str
    webhook_secret: str
    control_url: str


class Up:
    """A running `headshot-mirror up`, started by a shell where `by_shell` says so."""

    def __init__(
        self, folder: Path, options: tuple[str, ...], settings: dict[str, str | None], *, by_shell: bool
    ) -> None:
        self.folder = folder
        self.data = folder / ".headshot-mirror" / ("live" if "HEADSHOTPRO_API_KEY" in settings else "sandbox")
        self._output = folder / f"output-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "service.cli", "up", *options]
        if by_shell:
            command = ["/bin/sh", "-c", f"{shlex.join(command)}; true"]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                die_with_parent(command, signal.SIGTERM),
                cwd=folder,
                env=environment(**{**NEUTRAL, **settings}),
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C reaches the whole group: tests send signals to one process.
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def row(self, name: str) -> str:
        """A line of the table of what runs where."""
        match = re.search(rf"^  {name} +(.*)$", self.said, re.MULTILINE)
        assert match, self.said
        return match[1]

    def says(self, words: str, seconds: float = 60) -> Up:
        """Wait until it has printed some words."""
        assert eventually(lambda: words in self.said or self.process.poll() is not None, seconds), self.said
        assert words in self.said, self.said
        return self

    @property
    def vendor(self) -> Vendor:
        told = json.loads((self.data / "sandbox.json").read_text())
        return Vendor(**told, control_url=told["url"].removesuffix("/api/v2") + "/_sandbox")

    def query(self, sql: str, *values: object) -> list[Any]:
        """Ask the mirror, at the address that was printed."""
        url = self.row("Postgres").split(", ")[1]
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def statuses(self) -> dict[str, str]:
        return dict(self.query("select id, status from headshotpro.models"))

    def end(self, number: signal.Signals) -> float:
        """Send a signal and wait for the end; the seconds that it took."""
        sent = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        return time.monotonic() - sent


Start = Callable[..., Up]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `up` in one new folder, with settings by name, as often as a test asks."""
    folder = Path(tempfile.mkdtemp(prefix="hm-up-"))
    started: list[Up] = []
    settings: dict[str, str | None] = {"PORT": str(free_port()), "WEB_CONCURRENCY": "1"}

    def begin(*options: str, by_shell: bool = False, **more: str | None) -> Up:
        started.append(Up(folder, options, {**settings, **more}, by_shell=by_shell))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)
    left = processes_in(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left


def truth(vendor: Vendor) -> dict[str, str]:
    """The status of every model the vendor's list shows."""
    return {model["id"]: model["status"] for model in SandboxClient(vendor).walk(200)}


def running(up: Up, ending: str) -> list[int]:
    """Processes of this system whose command line ends so."""
    return [pid for pid, words in processes_in(up.folder).items() if words.endswith(ending)]


def living(up: Up) -> dict[str, str]:
    return {model: status for model, status in up.statuses().items() if status != "deleted"}


@pytest.mark.long
def test_up_mirrors_follows_webhooks_and_resumes_after_sigkill(start: Start) -> None:
    up = start("--", *SMALL).says(STARTED)
    assert eventually(lambda: len(up.statuses()) == 40), up.said

    # A deletion at the vendor arrives by webhook, not by a pull: its change names the event.
    gone = next(iter(up.statuses()))
    assert SandboxClient(up.vendor).api("DELETE", f"/organization/models/{gone}").status == 200
    tombstone = "select source, event_id from headshotpro.model_changes where model_id = %s and to_status = 'deleted'"
    assert eventually(lambda: up.query(tombstone, gone)), up.said
    [(source, event_id)] = up.query(tombstone, gone)
    assert source == "webhook"
    assert event_id.startswith("evt_")
    assert eventually(lambda: living(up) == truth(up.vendor), 30), "the lives go on, and the table follows"
    up.says("deleted 1")

    # The line for psql works as it was printed, from anywhere.
    answer = subprocess.run(["sh", "-c", up.row("query")], capture_output=True, text=True, check=True, cwd="/")
    assert re.search(r"deleted +\| +1\n", answer.stdout)

    # So does the request of the API, and it says that it was starting before it was well.
    response = subprocess.run(["sh", "-c", up.row("request")], capture_output=True, text=True, check=True, cwd="/")
    assert len(json.loads(response.stdout)["models"]) == 3
    up.says("  OK | ")
    assert up.said.index("  starting | ") < up.said.index("  OK | ")

    # The console opens with the password that was printed.
    console, password = up.row("console").split(", password ")
    login = urllib3.request("POST", f"{console}login", fields={"password": password}, redirect=False)
    assert (login.status, "headshotpro_console" in login.headers["Set-Cookie"]) == (303, True)

    # The command works as it was printed, in this folder.
    command = up.row("commands").split(", ")[0]
    status = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, cwd=up.folder, env=environment(**NEUTRAL)
    )
    assert status.stderr == "headshot-mirror: using the system that runs in .headshot-mirror/sandbox\n"
    assert "events_waiting" in status.stdout

    # Nobody has time to end anything, and yet nothing is left.
    before = up.vendor
    assert len(processes_in(up.folder)) > 8
    up.end(signal.SIGKILL)
    assert eventually(lambda: not processes_in(up.folder), 15), processes_in(up.folder)

    again = start("--", *SMALL).says(STARTED)
    assert again.query(tombstone, gone) == [(source, event_id)]
    assert again.vendor.api_key == before.api_key
    assert eventually(lambda: living(again) == truth(again.vendor), 30), again.said
    assert again.row("request") == up.row("request")
    assert again.end(signal.SIGTERM) < 10
    assert again.process.returncode == 0
    assert "Traceback" not in again.said
    assert not processes_in(again.folder)


@pytest.mark.long
def test_kept_folder_never_released_is_refused_with_what_to_do(start: Start) -> None:
    up = start("--", *SMALL).says(STARTED)
    up.query("update headshotpro.alembic_version set version_num = '0010' returning 1")
    up.end(signal.SIGTERM)
    again = start("--", *SMALL)
    assert again.process.wait(60) == 1
    assert "which was never released" in again.said.splitlines()[-1]
    assert "of `up`: delete its folder" in again.said.splitlines()[-1]
    assert not processes_in(again.folder)


@pytest.mark.long
def test_up_names_what_ended_and_a_new_start_goes_on(start: Start) -> None:
    up = start("--", *SMALL).says(STARTED)
    assert eventually(lambda: running(up, "-m workers worker"))
    [worker] = running(up, "-m workers worker")
    # Its advice then fits.
    assert "RUN_BY_UP=.headshot-mirror/sandbox:postgres:redis\0" in Path(f"/proc/{worker}/environ").read_text()
    postgres = int((up.data / "postgres/data/postmaster.pid").read_text().split()[0])
    for pid in (worker, postgres):
        os.kill(pid, signal.SIGKILL)
    for name in ("worker", "Postgres"):
        up.says(f"{name} ended (killed by signal 9): press Ctrl-C, and start again")
    up.says("Postgres ended, worker ended")
    assert (up.data / "worker.log").read_text().endswith("this process has ended: killed by signal 9\n")
    assert up.end(signal.SIGINT) < 10
    assert up.process.returncode == 0
    # The worker's children got SIGTERM when it was killed, and have ten seconds.
    assert eventually(lambda: not processes_in(up.folder), 10)
    again = start("--", *SMALL).says(STARTED)
    assert eventually(lambda: living(again) == truth(again.vendor), 40), again.said


@pytest.mark.long
def test_a_taken_port_is_replaced_and_named(start: Start) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        up = start("--", *SMALL, PORT=str(port)).says(STARTED)
        assert f"Port {port} is taken: web uses {port + 1}." in up.said
        assert f":{port + 1}/" in up.row("web")
        # The vendor has the new one: its events arrive. Its models alone may have no more to tell after a slow start.
        assert eventually(up.statuses), up.said
        gone = next(iter(up.statuses()))
        assert SandboxClient(up.vendor).api("DELETE", f"/organization/models/{gone}").status == 200
        applied = "select 1 from headshotpro.webhook_events where model_id = %s"
        assert eventually(lambda: up.query(applied, gone)), up.said


def test_a_folder_that_another_one_works_in_is_refused(start: Start) -> None:
    up = start("--help")
    up.process.wait(60)
    with locked(up.data):
        second = start()
        assert second.process.wait(60) == 1
    assert "is in use by another process" in second.said
    assert "Traceback" not in second.said


@pytest.mark.long
def test_with_a_key_but_no_secret_it_only_pulls_and_says_so(
    start: Start, sandbox: Callable[..., Any], database_url: str, redis_url: str
) -> None:
    vendor = sandbox(models=30, births=0)
    up = start(
        HEADSHOTPRO_API_KEY=vendor.api_key,
        HEADSHOTPRO_API_URL=vendor.url,
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
    ).says(STARTED)
    assert "only pulls" in up.row("web")
    assert up.row("processes") == "web, clock, worker"
    up.says(" 30 models")
    # Servers that were given are used, and none is started beside them.
    assert up.row("Postgres") == "that of DATABASE_URL"
    assert not (up.data / "postgres").exists()
    assert not (up.data.parent / "sandbox").exists()


@pytest.mark.long
def test_it_ends_with_its_parent_when_it_is_asked_to(start: Start, database_url: str, redis_url: str) -> None:
    # A shell that starts it and is killed, as `make` may be.
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    up = start("--with-parent", "--", *SMALL, by_shell=True, **servers).says(STARTED)
    up.end(signal.SIGKILL)
    assert eventually(lambda: not processes_in(up.folder)), processes_in(up.folder)
    up.says("Everything has ended.")


def test_options_of_the_sandbox_need_a_sandbox(start: Start) -> None:
    up = start("--", "--models", "3", HEADSHOTPRO_API_KEY="key")
    assert up.process.wait(60) == 2
    assert "HEADSHOTPRO_API_KEY is set" in up.said
