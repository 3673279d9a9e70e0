"""Heartbeats: each process has a row while it does its work, and none when it has stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import text

import service.heartbeat
from service.broker import inbox
from service.broker.client import connect_redis
from service.broker.inbox import Delivery
from service.broker.jobs import Job, JobQueue
from service.heartbeat import WORKER, Heartbeat
from service.process_identity import new_process_name
from service.storage import database, processes
from service.storage.processes import ProcessRow
from tests.support.processes import descendants, eventually, suspended
from tests.support.system import System, event_body, model_row, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres, Valkey

# No child is silent for longer than five seconds while it is idle.
LIMITS = "drain=12, work=12, alive=6"
SUPERVISOR = "from service import config, log; from workers import supervisor; settings = config.load(); "


def kinds(url: str) -> list[str]:
    return [row["kind"] for row in rows(url, "select kind from headshotpro.processes order by kind")]


def ages(url: str) -> list[float]:
    """Seconds since each process was seen."""
    query = "select extract(epoch from now() - seen_at)::float as age from headshotpro.processes"
    return [row["age"] for row in rows(url, query)]


def supervised(system: System, limits: str = LIMITS) -> Any:
    """A worker whose supervisor has short limits."""
    code = f"{SUPERVISOR}log.configure(settings); supervisor.run(settings, supervisor.SilenceLimits({limits}))"
    return system.run("worker", [sys.executable, "-c", code])


def child_of(pid: int, queue: str) -> int | None:
    """The process id of a worker's child."""
    for one in descendants(pid):
        words = command_line(one)
        if queue in words and "workers.rq_worker" in words:
            return one
    return None


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats of this process follow each other at once."""
    monkeypatch.setattr(service.heartbeat, "INTERVAL_SECONDS", 0.05)


@contextmanager
def beating(url: str, name: str | None = None, **options: Any) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(url, WORKER, name or new_process_name(), **options)
    heartbeat.start()
    try:
        yield heartbeat
    finally:
        heartbeat.close()


@pytest.mark.long
def test_each_process_has_one_row_until_it_is_stopped(folder: Path, database_url: str, redis_url: str) -> None:
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, WEB_CONCURRENCY="2") as system:
        started = system.start_all()
        assert eventually(lambda: kinds(database_url) == ["clock", "web", "worker"]), system.logs()
        found = rows(database_url, "select * from headshotpro.processes")
        assert all(row["host"] and row["version"] and row["started_at"] <= row["seen_at"] for row in found)
        # Web's row is its master's, whichever of its workers sends the heartbeat.
        web = next(row for row in found if row["kind"] == "web")
        assert f":{started['web'].process.pid}:" in web["name"]
        before = web["seen_at"]
        query = "select seen_at from headshotpro.processes where kind = 'web'"
        assert eventually(lambda: rows(database_url, query)[0]["seen_at"] > before, 8), system.logs()
        for number, role in enumerate(("clock", "web", "worker"), 1):
            assert started[role].stop() == 0
            assert len(kinds(database_url)) == 3 - number, (role, system.logs())


@pytest.mark.long
def test_stopped_children_are_replaced_and_events_flow(folder: Path, database_url: str, redis_url: str) -> None:
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system:
        worker = supervised(system)
        # Redis may give the waking job to the stopped child: the clock enqueues another.
        for role in ("clock", "web"):
            system.start(role)
        system.wait_for_web()
        assert eventually(lambda: kinds(database_url) == ["clock", "web", "worker"]), system.logs()
        queues = ("headshotpro-drain", "headshotpro-work")
        # A child that has not reported yet is given time to start; each reports before RQ registers it.
        with redis.Redis.from_url(redis_url) as client:
            assert eventually(lambda: client.scard("rq:workers") == len(queues)), system.logs()
        stopped = [child_of(worker.process.pid, queue) for queue in queues]
        for pid in stopped:
            assert pid
            os.kill(pid, signal.SIGSTOP)
        model = new_id()
        assert system.deliver(event_body(model)).status == 202
        # While the drain is stopped its worker sends no heartbeat, although it runs.
        assert eventually(lambda: max(ages(database_url)) > 6.5), system.logs()
        assert eventually(lambda: model_row(database_url, model)), system.logs()
        assert eventually(lambda: worker.said.count("worker.child.silent") == 2), system.logs()
        for queue in queues:
            assert eventually(lambda queue=queue: child_of(worker.process.pid, queue) not in {None, *stopped})
        assert eventually(lambda: max(ages(database_url)) < 5), system.logs()


@pytest.mark.usefixtures("often")
def test_heartbeat_stops_while_the_process_does_not_work(database_url: str) -> None:
    works = [False]
    with beating(database_url, alive=lambda: works[0]):
        time.sleep(0.2)
        assert kinds(database_url) == []
        works[0] = True
        assert eventually(lambda: kinds(database_url) == ["worker"])
    assert kinds(database_url) == []


@pytest.mark.usefixtures("often")
def test_heartbeat_goes_on_after_an_outage_of_postgres(own_migrated_postgres: Postgres) -> None:
    with beating(own_migrated_postgres.url):
        assert eventually(lambda: kinds(own_migrated_postgres.url) == ["worker"])
        own_migrated_postgres.stop()
        time.sleep(0.2)
        own_migrated_postgres.boot()
        assert eventually(lambda: max(ages(own_migrated_postgres.url)) < 0.1)


@pytest.mark.usefixtures("often")
def test_stopping_process_waits_two_seconds_for_hung_postgres(own_migrated_postgres: Postgres) -> None:
    with beating(own_migrated_postgres.url) as heartbeat:
        assert eventually(lambda: kinds(own_migrated_postgres.url) == ["worker"])
        with suspended(own_migrated_postgres):
            before = time.monotonic()
            heartbeat.close()
            assert time.monotonic() - before < 3


def test_each_statement_of_a_transaction_is_progress(database_url: str) -> None:
    engine = database.connect(database_url)
    reports: list[None] = []
    database.on_statement_executed(engine, lambda: reports.append(None))
    with database.transaction(engine) as connection:
        before = len(reports)
        for number in range(1, 4):
            connection.execute(text("SELECT 1"))
            assert len(reports) == before + number


def test_rows_unseen_for_a_day_are_removed(database_url: str) -> None:
    engine = database.connect(database_url)
    with database.transaction(engine) as connection:
        for name in ("old", "young"):
            processes.beat(connection, ProcessRow(name, WORKER, "host", "0"), 0)
    rows_of = "update headshotpro.processes set seen_at = now() - interval '25 hours' where name = 'old' returning name"
    assert rows(database_url, rows_of)
    with database.transaction(engine) as connection:
        processes.delete_unseen(connection)
        assert [row["name"] for row in processes.list_rows(connection)] == ["young"]


def test_worker_of_web_that_stops_leaves_the_row(folder: Path, database_url: str, redis_url: str) -> None:
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, WEB_CONCURRENCY="1") as system:
        master = system.start("web").process.pid
        assert eventually(lambda: kinds(database_url) == ["web"]), system.logs()
        query = "select started_at, seen_at from headshotpro.processes"
        (before,) = rows(database_url, query)
        (worker,) = descendants(master)
        os.kill(worker, signal.SIGTERM)
        found: list[Any] = []

        def is_renewed() -> bool:
            now = rows(database_url, query)
            assert len(now) == 1, "the row is there all the time"
            found.extend(now)
            return worker not in descendants(master) and found[-1]["seen_at"] > before["seen_at"]

        assert eventually(is_renewed), system.logs()
        assert len(rows(database_url, query)) == 1
        # It is the start of web, whichever worker sends the heartbeat.
        assert all(abs((row["started_at"] - before["started_at"]).total_seconds()) < 1 for row in found)


@pytest.mark.long
def test_outage_longer_than_the_limit_replaces_no_child(
    folder: Path, own_migrated_postgres: Postgres, own_valkey: Valkey
) -> None:
    with System(folder, DATABASE_URL=own_migrated_postgres.url, REDIS_URL=own_valkey.url) as system:
        worker = supervised(system, "drain=7, work=7, alive=6.5")
        assert eventually(lambda: kinds(own_migrated_postgres.url) == ["worker"]), system.logs()
        before = set(descendants(worker.process.pid))
        # An event in flight: its drain waits for Postgres; the other child waits for Redis.
        client = connect_redis(own_valkey.url)
        own_migrated_postgres.stop()
        inbox.Inbox(client).put(Delivery.arrived(event_body(new_id()), int(time.time()), datetime.now(UTC)))
        assert JobQueue(client).enqueue(Job.DRAIN)
        assert eventually(lambda: "drain.waits" in worker.said), system.logs()
        own_valkey.stop()
        time.sleep(9)
        assert set(descendants(worker.process.pid)) == before, system.logs()
        own_valkey.boot()
        own_migrated_postgres.boot()
        assert eventually(lambda: max(ages(own_migrated_postgres.url), default=99) < 5), system.logs()
        assert set(descendants(worker.process.pid)) == before, system.logs()
        assert "worker.child" not in worker.said
