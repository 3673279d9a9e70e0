"""The processes of the Procfile over real servers: they work together, say what is wrong, and end when asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import urllib3

from service.broker.jobs import Job, JobQueue
from service.local.servers import Valkey
from tests.support.cli import Cli
from tests.support.processes import descendants, eventually, processes_in
from tests.support.system import SECRET, WEBHOOK_PATH, System, event_body, model_row, new_id, rows, signed
from tests.support.threads import run_concurrently
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres
    from tests.conftest import StartSandbox

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("processes")


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
    assert eventually(lambda: rows(database_of(everything), query, models) == [{"count": 400}])


@pytest.mark.parametrize("event_id", ["evt_captured", None])
def test_a_captured_delivery_that_is_sent_again_changes_nothing(everything: System, event_id: str | None) -> None:
    model = new_id()
    early = datetime.now(UTC)
    captured = event_body(model, status="pending", at=early, event_id=event_id)
    headers = signed(captured)
    event = everything.post(captured, headers).json()["event"]
    assert everything.deliver(event_body(model, status="active", at=early + timedelta(seconds=1))).status == 202
    assert eventually(lambda: status_of(everything, model) == "active")
    query = "select count(*) from headshotpro.model_changes where model_id = %s"
    before = rows(database_of(everything), query, model), model_row(database_of(everything), model)
    assert [everything.post(captured, headers).json()["event"] for _ in range(3)] == [event] * 3
    seen = "select deliveries from headshotpro.webhook_events where id = %s"
    assert eventually(lambda: rows(database_of(everything), seen, event) == [{"deliveries": 4}])
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


def test_header_of_a_client_moves_no_path(everything: System) -> None:
    for name in ("SCRIPT_NAME", "PATH_INFO", "X-Forwarded-Prefix"):
        answer = urllib3.request("GET", f"{everything.url}/webhooks/livez", headers={name: "/webhooks"}, retries=False)
        assert answer.status == 404, name


def test_test_delivery_is_followed_into_the_table(everything: System, folder: Path) -> None:
    servers = {name: everything.settings[name] for name in ("DATABASE_URL", "REDIS_URL")}
    cli = Cli(folder, **servers, HEADSHOTPRO_WEBHOOK_SECRET=SECRET, PUBLIC_URL=f"{everything.url}/")
    done = cli.run("webhook", "test", "--json")
    assert done.status == 0, done
    assert done.document["url"] == f"{everything.url}{WEBHOOK_PATH}"
    assert (done.document["response"], done.document["event_status"]) == (202, "ignored")
    event, query = (
        done.document["event_id"],
        "select event, status, model_id from headshotpro.webhook_events where id = %s",
    )
    assert rows(database_of(everything), query, event) == [
        {"event": "webhook.test", "status": "ignored", "model_id": None}
    ]
    # Each row of a model has a change.
    assert rows(database_of(everything), "select * from headshotpro.model_changes where event_id = %s", event) == []

    lines = cli.run("webhook", "test").out.splitlines()
    assert lines[1].endswith("; its status is `ignored`, as it should be: it is about no model.")
    assert lines[2:] == ["This does not show whether HeadshotPro signs with the same secret."]

    elsewhere = cli.run("webhook", "test", "--url", f"{everything.url}/hook")
    assert elsewhere.status == 1
    assert elsewhere.err.endswith(
        f"{everything.url}/hook{WEBHOOK_PATH} did not accept the delivery: web serves no such path: a webhook URL has "
        "to end in /webhooks/headshotpro\n"
    )

    wrong = cli.run("webhook", "test", HEADSHOTPRO_WEBHOOK_SECRET="ab" * 32)
    assert (wrong.status, "responded 401" in wrong.out) == (1, True)
    assert "web accepts another secret" in wrong.err


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
        # Else one of these may be what is stuck, and no pull begins meanwhile.
        "DETAIL_BUDGET": "0",
        "ACCURACY_BUDGET": "0",
    }
    with System(folder, **settings) as system:
        started = system.start_all()
        caller = SandboxClient(vendor)
        caller.control("POST", "/webhook", {"url": system.url + WEBHOOK_PATH})
        count = "select count(*) from headshotpro.models"
        assert eventually(lambda: rows(database_url, count) == [{"count": 400}]), system.logs()
        # `test_heartbeats.py` has more about the row of each process.
        kinds = "select kind from headshotpro.processes order by kind"
        alive = [{"kind": kind} for kind in ("clock", "web", "worker")]
        assert eventually(lambda: rows(database_url, kinds) == alive), system.logs()

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
            alive.remove({"kind": role})
            assert rows(database_url, kinds) == alive, (role, system.logs())
        flooding.join(30)
        assert eventually(lambda: not processes_in(folder), 5), processes_in(folder)


def time_until_deleted(system: System, caller: SandboxClient, model: str) -> float:
    before = time.monotonic()
    caller.control("DELETE", f"/models/{model}?events=1")
    assert eventually(lambda: status_of(system, model) == "deleted"), system.logs()
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
    """A worker without a clock and without web: it does what a test asks for and nothing else."""
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system:
        system.start("worker")
        yield system


@pytest.mark.parametrize("jobs", [10, pytest.param(60, marks=pytest.mark.long)])
def test_jobs_leave_no_keys_behind(lonely_worker: System, redis_url: str, jobs: int) -> None:
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
        assert run_jobs(jobs) <= before


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
    with System(folder, DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:9/0") as system:
        web = system.start("web")
        system.wait_for_web()
        own_postgres.boot()
        assert web.process.wait(30) == 1
        assert "run `headshot-mirror migrate`" in web.said.splitlines()[-1]
