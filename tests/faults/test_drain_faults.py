"""A drain that is cut off at the worst moments: another one applies its batch, once."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.broker.inbox import GROUP, STREAM
from service.broker.jobs import Job, JobQueue
from service.errors import PostgresUnavailable, RedisUnavailable
from service.mirror import drain
from service.mirror.drain import drain_batch
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes, opened
from tests.support.processes import eventually, processes_in
from tests.support.servers import crash
from tests.support.system import System, event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.local.servers import Postgres, Valkey


@contextmanager
def locked(drainer: Drainer, model: str) -> Iterator[None]:
    """Every writer of this model waits."""
    with psycopg.connect(drainer.url) as connection:
        connection.execute("select 1 from headshotpro.model_clocks where model_id = %s for update", [model])
        yield


def give(drainer: Drainer, *bodies: bytes) -> None:
    """Do as the endpoint does: take deliveries and wake a worker."""
    drainer.put(*bodies)
    JobQueue(drainer.client).enqueue(Job.DRAIN)


def holder(drainer: Drainer, entries: int) -> int:
    """The process that has this number of entries in flight."""

    def look() -> int:
        found = drainer.client.xpending(STREAM, GROUP) if drainer.client.exists(STREAM) else {"pending": 0}
        # Consumers are named `host:pid:random`.
        return int(found["consumers"][0]["name"].split(b":")[-2]) if found["pending"] == entries else 0

    pid = eventually(look)
    assert pid, "no process took the batch"
    return pid


@pytest.mark.long
def test_batch_of_a_killed_worker_is_applied_once_by_another(
    drainer: Drainer, folder: Path, database_url: str, redis_url: str
) -> None:
    stuck, free = new_id(), new_id()
    drainer.take(event_body(stuck, at=T0, status="waiting"))
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system:
        system.start("clock")
        system.start("worker")
        system.start("worker")
        with locked(drainer, stuck):
            bodies = [event_body(stuck, at=minutes(1), event_id="evt_stuck"), event_body(free, at=T0)]
            give(drainer, *bodies)
            os.kill(holder(drainer, 2), signal.SIGKILL)
        before = time.monotonic()
        assert eventually(lambda: drainer.row(stuck)["status"] == "active"), system.logs()
        # 5 s until a batch counts as abandoned, and a second or two until another drain runs.
        assert time.monotonic() - before < 15
        assert eventually(lambda: drainer.box.depth().events == 0)
    assert drainer.row(free)["status"] == "active"
    assert drainer.event("evt_stuck")["deliveries"] == 1
    assert [change["to_status"] for change in drainer.changes(stuck)] == ["waiting", "active"]
    drainer.assert_empty()


def test_a_drain_that_is_stuck_does_not_outlive_its_worker(
    drainer: Drainer, folder: Path, database_url: str, redis_url: str
) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="waiting"))
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url) as system, locked(drainer, model):
        worker = system.start("worker")
        give(drainer, event_body(model, at=minutes(1)))
        holder(drainer, 1)
        worker.process.kill()
        assert eventually(lambda: not processes_in(folder)), processes_in(folder)
        assert drainer.box.depth().events == 1


def test_without_postgres_a_batch_stays_in_the_inbox(redis_url: str, own_migrated_postgres: Postgres) -> None:
    with opened(own_migrated_postgres.url, redis_url) as drainer:
        model = new_id()
        drainer.put(event_body(model, at=T0))
        entries = drainer.box.read(10, 0)
        crash(own_migrated_postgres)
        for _ in range(2):
            with pytest.raises(PostgresUnavailable):
                drain_batch(drainer.engine, drainer.box, entries, TOLERANCE)
        assert drainer.box.depth().events == 1
        own_migrated_postgres.boot()
        assert drain_batch(drainer.engine, drainer.box, entries, TOLERANCE).results == {"applied": 1}
        assert drainer.row(model)["status"] == "active"
        drainer.assert_empty()


def test_applied_but_unacknowledged_batch_changes_nothing_again(database_url: str, own_valkey: Valkey) -> None:
    with opened(database_url, own_valkey.url) as drainer:
        model = new_id()
        drainer.put(event_body(model, at=T0, event_id="evt_1"), event_body(model, at=minutes(1), event_id="evt_2"))
        entries = drainer.box.read(10, 0)
        crash(own_valkey)
        with pytest.raises(RedisUnavailable):
            drain_batch(drainer.engine, drainer.box, entries, TOLERANCE)
        before = drainer.row(model), drainer.changes(model)
        own_valkey.boot()
        drainer.age_pending_entries()
        assert drainer.drain().results == {"repeated": 2}
        assert (drainer.row(model), drainer.changes(model)) == before
        drainer.assert_empty()


def test_a_batch_that_waits_too_long_for_a_lock_is_tried_again(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BATCH_LOCK_SECONDS", 0.2)
    model = new_id()
    drainer.take(event_body(model, at=T0, status="waiting"))
    drainer.put(event_body(model, at=minutes(1), event_id="evt_1"))
    entries = drainer.box.read(10, 0)
    with locked(drainer, model):
        # Nothing was applied, so nothing is taken out of the inbox.
        assert drain_batch(drainer.engine, drainer.box, entries, TOLERANCE).entries == []
    assert drainer.box.depth().events == 1
    assert drain_batch(drainer.engine, drainer.box, entries, TOLERANCE).results == {"applied": 1}
    assert drainer.event("evt_1")["status"] == "applied"


def test_connections_that_were_cut_while_idle_are_not_noticed(drainer: Drainer) -> None:
    others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    for number in range(3):
        assert drainer.take(event_body(new_id(), at=minutes(number))) == {"applied": 1}
        assert rows(drainer.url, f"select pg_terminate_backend(pid) {others}")
