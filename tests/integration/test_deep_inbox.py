"""The drain's job over a deep inbox: each event once, in order, whatever breaks a batch off."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.broker import inbox
from service.broker.counters import EVENTS, read
from service.broker.inbox import GROUP, STREAM
from service.config import Settings
from service.errors import PostgresUnavailable, RedisUnavailable
from service.mirror import drain
from service.mirror.batches import BATCH_SIZE
from service.runtime import Runtime
from tests.support.drainer import T0
from tests.support.processes import eventually
from tests.support.system import NOWHERE, event_body, model_row, new_id, rows
from workers import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from service.broker.inbox import Delivery, Inbox
    from service.mirror.drain import DrainResult
    from service.mirror.webhooks import Event
    from tests.support.drainer import Drainer


@pytest.fixture
def worker(drainer: Drainer, database_url: str, redis_url: str) -> Iterator[Runtime]:
    """The runtime of a worker's child, with the jobs on it."""
    runtime = Runtime.build(Settings(database_url=database_url, redis_url=redis_url, headshotpro_api_url=NOWHERE))
    jobs.install(runtime)
    yield runtime
    runtime.engine.dispose()
    runtime.redis.close()


def test_deep_inbox_is_applied_once_and_each_change_is_recorded(drainer: Drainer, worker: Runtime) -> None:
    dice, models = Random(2), [new_id() for _ in range(50)]
    told: dict[str, list[str]] = {model: [] for model in models}
    bodies = []
    for number in range(5 * BATCH_SIZE // 2):
        model = dice.choice(models)
        told[model].append(f"title {number}")
        bodies.append(event_body(model, at=T0 + timedelta(seconds=number), title=told[model][-1]))
    # Some come twice, a while later: they are in the same batch, or in a later one.
    bodies += dice.sample(bodies, 100)
    drainer.put(*bodies)
    jobs.drain()
    drainer.assert_empty()
    history = rows(drainer.url, "select model_id, changed from headshotpro.model_changes order by id")
    shown = {
        model: [change["changed"]["title"][1] for change in history if change["model_id"] == model] for model in models
    }
    assert shown == told
    (kept,) = rows(drainer.url, "select count(*), sum(deliveries) from headshotpro.webhook_events")
    assert (kept["count"], kept["sum"]) == (len(bodies) - 100, len(bodies))
    worker.counters.flush()
    counted = Counter({labels[1]: int(number) for labels, number in read(worker.redis).items() if labels[0] == EVENTS})
    assert counted["applied"] == len(bodies) - 100


def test_batch_that_fails_ends_the_drain(drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(_runtime: Runtime, batch: Any, _deadline: float) -> bool:
        applied.append(len(batch.entries))
        if len(applied) > 1:
            raise RedisUnavailable("made up")
        return False

    applied: list[int] = []
    monkeypatch.setattr(jobs, "_apply", apply)
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(3 * BATCH_SIZE)])
    with pytest.raises(RedisUnavailable):
        jobs.drain()
    assert applied == [BATCH_SIZE, 2 * BATCH_SIZE]


def test_batch_that_outlasts_its_time_in_flight_is_applied_once(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read while it is applied holds its own entries: they seem to be a dead consumer's."""
    real, applied = drain.drain_batch, Counter[str]()

    def drain_batch(engine: Engine, box: Inbox, entries: list[Delivery], *more: Any) -> DrainResult:
        applied.update(entry.entry_id for entry in entries)
        time.sleep(2 * inbox.RECLAIM_AFTER_MS / 1000)
        return real(engine, box, entries, *more)

    monkeypatch.setattr(drain, "drain_batch", drain_batch)
    monkeypatch.setattr(inbox, "RECLAIM_AFTER_MS", 150)
    monkeypatch.setattr(jobs, "LINGER_MS", 100)
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(4 * BATCH_SIZE)])
    jobs.drain()
    drainer.assert_empty()
    assert set(applied.values()) == {1}
    assert len(applied) == 4 * BATCH_SIZE
    worker.counters.flush()
    counted = Counter({labels[1]: int(number) for labels, number in read(worker.redis).items() if labels[0] == EVENTS})
    assert counted == {"applied": 4 * BATCH_SIZE}


def test_stop_leaves_what_was_read_ahead_to_the_next_drain(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = drain.drain_batch

    def drain_batch(engine: Engine, box: Inbox, entries: list[Delivery], *more: Any) -> DrainResult:
        worker.stop.set()
        return real(engine, box, entries, *more)

    bodies = [event_body(new_id(), at=T0) for _ in range(4 * BATCH_SIZE)]
    drainer.put(*bodies)
    with monkeypatch.context() as patch:
        patch.setattr(drain, "drain_batch", drain_batch)
        jobs.drain()
    kept = "select count(*) as n, sum(deliveries) as deliveries from headshotpro.webhook_events"
    assert rows(drainer.url, kept) == [{"n": BATCH_SIZE, "deliveries": BATCH_SIZE}]
    assert drainer.client.xpending(STREAM, GROUP)["pending"] == 2 * BATCH_SIZE, "one batch was read ahead"
    worker.stop.clear()
    drainer.age_pending_entries()
    jobs.drain()
    drainer.assert_empty()
    assert rows(drainer.url, kept) == [{"n": len(bodies), "deliveries": len(bodies)}]


def test_aborted_batch_is_halved_until_it_is_applied(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = drain.drain_batch
    tried: list[int] = []

    def drain_batch(engine: Engine, box: Inbox, entries: list[Delivery], tolerance: Any, events: Any) -> DrainResult:
        tried.append(len(entries))
        parsed.append(events)
        if len(entries) > 100:
            raise PostgresUnavailable("Postgres ended a session that was idle for too long")
        return real(engine, box, entries, tolerance, events)

    parsed: list[list[Event] | None] = []
    monkeypatch.setattr(drain, "drain_batch", drain_batch)
    monkeypatch.setattr(jobs, "STORAGE_PAUSE_SECONDS", 0.0)
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(300)])
    jobs.drain()
    drainer.assert_empty()
    assert tried == [300, 150, 75, 75, 150, 75, 75]
    # Events are parsed with the read, and anew for another try.
    assert [events and len(events) for events in parsed] == [300, *[None] * 6]
    assert worker.stop.is_set() is False


def test_drain_leaves_the_rest_of_a_broken_batch_after_its_time(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = drain.drain_batch
    times = [0.0]

    def drain_batch(engine: Engine, box: Inbox, entries: list[Delivery], *more: Any) -> DrainResult:
        if len(entries) > 100:
            raise PostgresUnavailable("Postgres ended a session that was idle for too long")
        times.append(times[-1] + jobs.DRAIN_SECONDS + 1)
        return real(engine, box, entries, *more)

    monkeypatch.setattr(drain, "drain_batch", drain_batch)
    monkeypatch.setattr(jobs, "STORAGE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "monotonic", lambda: times[-1])
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(150)])
    jobs.drain()
    assert rows(drainer.url, "select count(*) as n from headshotpro.webhook_events") == [{"n": 75}]
    assert worker.queue.enqueue(jobs.Job.DRAIN) is False, "the next drain was asked for"


def test_a_drain_goes_on_while_a_lock_leaves_an_event(
    drainer: Drainer, worker: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BATCH_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(drain, "ALONE_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(inbox, "RECLAIM_AFTER_MS", 200)
    monkeypatch.setattr(jobs, "LINGER_MS", 100)
    monkeypatch.setattr(jobs, "DRAIN_SECONDS", 8.0)
    held, good = new_id(), new_id()
    drainer.take(event_body(held, at=T0, status="pending"))
    drainer.put(event_body(held, at=T0 + timedelta(minutes=1)), event_body(good, at=T0))
    with psycopg.connect(drainer.url) as other:
        other.execute("select from headshotpro.model_clocks where model_id = %s for update", [held])
        ended = threading.Thread(target=jobs.drain, daemon=True)
        ended.start()
        assert eventually(lambda: model_row(drainer.url, good) is not None)
    ended.join(30)
    assert not ended.is_alive()
    assert drainer.row(held)["status"] == "active"
    assert worker.stop.is_set() is False
