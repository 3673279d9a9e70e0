"""The processes of the Procfile over real servers: they work together, say what is wrong, and end when asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from service.broker.jobs import Job, JobQueue
from service.config import environment
from service.local.servers import Valkey, free_port
from tests.support.processes import descendants, eventually, processes_in
from tests.support.system import WEBHOOK_PATH, System, event_body, model_row, new_id, procfile, rows, signed
from tests.support.threads import run_concurrently
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres
    from tests.conftest import StartSandbox

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("processes")

ROLES = ("web", "worker", "clock")
SERVERS = {
    "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:9/d",
    "REDIS_URL": "redis://:hunter2@127.0.0.1:9/0",
    "HEADSHOTPRO_API_KEY": "hunter2",
    "HEADSHOTPRO_WEBHOOK_SECRET": "hunter2",
}


@pytest.fixture(scope="module")
def everything(postgres: Postgres) -> Iterator[System]:
    """Web, worker and clock, for the tests that leave them as they were; the upstream is nowhere."""
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    # A Redis of their own: the one of this test process is emptied for each other test, and they would work on it.
    with (
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url) as system,
    ):
        system.start_all()
        yield system
    shutil.rmtree(folder)


def database_of(system: System) -> str:
    return system.settings["DATABASE_URL"] or ""


def status_of(system: System, model: str) -> str | None:
    return (model_row(database_of(system), model) or {}).get("status")


# Together.


def test_signed_deletion_soon_becomes_tombstone_with_its_event(everything: System) -> None:
    model = new_id()
    answer = everything.deliver(event_body(model, "model.deleted", event_id=f"evt_{model}"))
    assert answer.status == 202
    assert answer.json() == {"status": "accepted", "event": f"evt_{model}"}
    assert eventually(lambda: status_of(everything, model) == "deleted", 10)
    query = "select event_id, to_status from headshotpro.model_changes where model_id = %s"
    assert rows(database_of(everything), query, model) == [{"event_id": f"evt_{model}", "to_status": "deleted"}]


def test_hundreds_of_deliveries_at_once_are_all_applied(everything: System) -> None:
    models = [new_id() for _ in range(400)]

    def deliver(some: list[str]) -> None:
        for model in some:
            assert everything.deliver(event_body(model, status="active")).status == 202

    run_concurrently(*[partial(deliver, models[start::8]) for start in range(8)])
    query = "select count(*) from headshotpro.models where id = any(%s) and status = 'active'"
    assert eventually(lambda: rows(database_of(everything), query, models) == [{"count": 400}], 20)


@pytest.mark.parametrize("event_id", ["evt_captured", None])
def test_a_captured_delivery_that_is_sent_again_changes_nothing(everything: System, event_id: str | None) -> None:
    model = new_id()
    early = datetime.now(UTC)
    captured = event_body(model, status="pending", at=early, event_id=event_id)
    headers = signed(captured)
    event = everything.post(captured, headers).json()["event"]
    assert everything.deliver(event_body(model, status="active", at=early + timedelta(seconds=1))).status == 202
    assert eventually(lambda: status_of(everything, model) == "active", 10)
    query = "select count(*) from headshotpro.model_changes where model_id = %s"
    before = rows(database_of(everything), query, model), model_row(database_of(everything), model)
    assert [everything.post(captured, headers).json()["event"] for _ in range(3)] == [event] * 3
    seen = "select deliveries from headshotpro.webhook_events where id = %s"
    assert eventually(lambda: rows(database_of(everything), seen, event) == [{"deliveries": 4}], 10)
    assert (rows(database_of(everything), query, model), model_row(database_of(everything), model)) == before


def test_stale_and_forged_responses_match_but_log_lines_differ(everything: System) -> None:
    body = event_body(new_id())
    (web,) = [started for started in everything.started if started.log.name.startswith("web")]
    said = len(web.said)
    old, forged = signed(body, at=time.time() - 3600), signed(body, secret="another")
    answers = [everything.post(body, headers) for headers in (old, forged)]
    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].data == answers[1].data

    def told() -> list[str]:
        lines = [json.loads(line) for line in web.said[said:].splitlines() if line.startswith("{")]
        return [line["answer"] for line in lines if line["event"] == "delivery" and line["status"] == 401]

    assert eventually(lambda: told() == ["stale", "forged"]), web.said[said:]


def test_a_chunked_body_is_limited_on_the_wire_too(everything: System) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    # Without a length, 401 comes first: an unsigned body is not read.
    assert everything.post(chunks(), {"Content-Type": "application/json"}).status == 401
    body = event_body(new_id())
    answer = everything.post(chunks(), signed(body))
    assert answer.status == 413
    assert answer.json()["code"] == "PAYLOAD_TOO_LARGE"
    assert everything.post(iter([body[:10], body[10:]]), signed(body)).status == 202


def test_request_without_a_host_is_refused_except_by_http_1_0(everything: System) -> None:
    first_lines = []
    for version in (b"1.1", b"1.0"):
        with socket.create_connection(("127.0.0.1", everything.port), 15) as client:
            client.sendall(b"GET /livez HTTP/%s\r\n\r\n" % version)
            first_lines.append(b"".join(iter(lambda: client.recv(4000), b"")).split(b"\r\n")[0])
    assert first_lines == [b"HTTP/1.1 400 Bad Request", b"HTTP/1.0 200 OK"]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"what is this", 400),
        (b"GET / HTTP/9.9", 400),
        (b"POST /webhooks/headshotpro HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Type: text/plain", 400),
        (b"POST /webhooks/headshotpro HTTP/1.1\r\nContent-Length: many", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1", 414),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 5000, 431),
        (b"GET /livez HTTP/1.1\r\nHost: there", 400),
        (b"POST /webhooks/headshotpro HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", 501),
    ],
)
def test_unreadable_request_gets_an_error_in_the_common_format(
    everything: System, request_head: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", everything.port), 15) as client:
        client.sendall(request_head + b"\r\nHost: here\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4000), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"Content-Type: application/json" in head
    document = json.loads(body)
    assert (document["success"], document["code"], sorted(document)) == (
        False, "INVALID_REQUEST", ["code", "error", "success"],
    )  # fmt: skip


# Settings.


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
        ("web", "HEADSHOTPRO_WEBHOOK_SECRET", ","),
        ("web", "REDIS_URL", "http://:hunter2@h"),
        ("worker", "HEADSHOTPRO_API_KEY", None),
        ("worker", "DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:9/d?pgbouncer=true"),
        ("web", "REDIS_URL", "redis://:hunter2@127.0.0.1:9/0?socket_timeout=soon"),
        ("worker", "REDIS_URL", "rediss://:hunter2@127.0.0.1:9/0?ssl_cert_reqs=maybe"),
        ("clock", "REDIS_URL", "redis://:hunter2@127.0.0.1:9/0?hunter2=1"),
        ("clock", "REDIS_URL", ""),
        ("clock", "PULL_INTERVAL_SECONDS", "soon"),
        ("release", "DATABASE_URL", None),
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


@pytest.mark.parametrize("role", ROLES)
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


# Against a vendor, and to the end.


def test_processes_mirror_upstream_and_stop_in_time_under_load(
    folder: Path, database_url: str, redis_url: str, sandbox: StartSandbox
) -> None:
    vendor = sandbox(models=400, quiet=True, rate=0)
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HEADSHOTPRO_API_URL": vendor.url,
        "HEADSHOTPRO_API_KEY": vendor.api_key,
        "HEADSHOTPRO_WEBHOOK_SECRET": vendor.webhook_secret,
        "PULL_INTERVAL_SECONDS": "1",
    }
    with System(folder, **settings) as system:
        started = system.start_all()
        caller = SandboxClient(vendor)
        caller.control("POST", "/webhook", {"url": system.url + WEBHOOK_PATH})
        count = "select count(*) from headshotpro.models"
        assert eventually(lambda: rows(database_url, count) == [{"count": 400}], 30), system.logs()

        # From here on an answer takes up to a minute: a pull is stuck, and never delays a drain.
        caller.control("POST", "/hostile", {"slow": 60})
        newest = "select status from headshotpro.pulls order by id desc limit 1"
        assert eventually(lambda: rows(database_url, newest) == [{"status": "running"}]), system.logs()
        models = [model["id"] for model in caller.control("GET", "/models")[:5]]
        waited = [time_until_deleted(system, caller, model) for model in models]
        assert max(waited) < 5, waited

        flooding = threading.Thread(target=flood, args=(system, vendor.webhook_secret))
        flooding.start()
        for role in ("worker", "clock", "web"):
            before = time.monotonic()
            assert started[role].stop() == 0, system.logs()
            assert time.monotonic() - before < 10, role
        flooding.join(30)
        assert eventually(lambda: not processes_in(folder), 5), processes_in(folder)


def time_until_deleted(system: System, caller: SandboxClient, model: str) -> float:
    before = time.monotonic()
    caller.control("DELETE", f"/models/{model}?events=1")
    assert eventually(lambda: status_of(system, model) == "deleted", 20), system.logs()
    return time.monotonic() - before


def flood(system: System, secret: str) -> None:
    """Deliver until no process listens any more."""
    deadline = time.monotonic() + 25
    answer: Any = None
    while time.monotonic() < deadline and (answer is None or answer.status):
        body = event_body(new_id())
        answer = system.post(body, signed(body, secret=secret))


@pytest.fixture
def lonely_worker(folder: Path, database_url: str, redis_url: str) -> Iterator[System]:
    """A worker without a clock and without a door: it does what a test asks for and nothing else."""
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system:
        system.start("worker")
        yield system


def test_jobs_leave_no_keys_behind(lonely_worker: System, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        asked = JobQueue(client)
        # Both children are there, with the keys that RQ has for each.
        assert eventually(lambda: len(list(client.scan_iter("rq:worker:*"))) == 2), lonely_worker.logs()

        def run_jobs(number: int) -> set[bytes]:
            for _ in range(number):
                assert eventually(lambda: asked.enqueue(Job.APPLY_RETENTION))
                assert eventually(lambda: not client.exists(Job.APPLY_RETENTION.flag)), lonely_worker.logs()
            passing = ("rq:job:*", "rq:execution*")
            assert eventually(lambda: not [key for kind in passing for key in client.scan_iter(kind)])
            return set(client.scan_iter())

        before = run_jobs(3)
        assert run_jobs(60) <= before


@pytest.mark.last
def test_nothing_of_a_worker_is_left_when_it_is_killed(everything: System) -> None:
    (worker,) = [started for started in everything.started if started.log.name.startswith("worker")]
    assert eventually(lambda: len(descendants(worker.process.pid)) == 2), everything.logs()
    left = {worker.process.pid, *descendants(worker.process.pid)}
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert eventually(lambda: not left & processes_in(everything.folder).keys()), processes_in(everything.folder)


def test_web_exits_when_postgres_returns_with_an_old_schema(folder: Path, own_postgres: Postgres) -> None:
    url = own_postgres.url
    own_postgres.stop()
    with System(folder, DATABASE_URL=url, REDIS_URL=SERVERS["REDIS_URL"]) as system:
        web = system.start("web")
        system.wait_for_web()
        own_postgres.boot()
        assert web.process.wait(30) == 1
        assert "run `headshot-mirror migrate`" in web.said.splitlines()[-1]
