"""`model_changes` as those have it who read it: a history, a feed that misses nothing, a notification."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.mirror.apply import apply
from service.mirror.merge import Observation
from service.storage.database import transaction
from service.storage.history import COMMIT_ORDER_LOCK
from tests.support.drainer import T0, Drainer, minutes, opened
from tests.support.processes import eventually
from tests.support.system import event_body, new_id, rows
from tests.support.threads import run_concurrently

if TYPE_CHECKING:
    from sqlalchemy import Connection

WRITERS = 4
ROUNDS = 60


def seen(model_id: str, number: int, **fields: Any) -> Observation:
    at = minutes(number)
    return Observation(model_id=model_id, at=at, until=at, fields={"status": "active", **fields})


def statuses(drainer: Drainer, model_id: str) -> list[tuple[str | None, str | None]]:
    return [(change["from_status"], change["to_status"]) for change in drainer.changes(model_id)]


def test_the_first_row_of_a_model_comes_from_no_status(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="waiting", title="Ada"))
    assert statuses(drainer, model) == [(None, "waiting")]
    (change,) = drainer.changes(model)
    assert change["changed"]["status"] == [None, "waiting"]
    assert change["changed"]["title"] == [None, "Ada"]


def test_model_with_unknown_status_has_no_status_in_its_changes(drainer: Drainer) -> None:
    model = new_id()
    with transaction(drainer.engine) as connection:
        apply(connection, [Observation(model, T0, T0, {"title": "Ada"})], "pull")
    assert statuses(drainer, model) == [(None, None)]
    assert drainer.row(model)["status"] is None


def test_each_status_is_a_step_from_the_one_before(drainer: Drainer) -> None:
    model = new_id()
    for number, status in enumerate(["waiting", "pending", "failed", "pending", "active"]):
        drainer.take(event_body(model, at=minutes(number), status=status))
    drainer.take(event_body(model, "model.deleted", at=minutes(9), status="active"))
    expected = [None, "waiting", "pending", "failed", "pending", "active", "deleted"]
    assert statuses(drainer, model) == list(pairwise(expected))


def test_a_change_of_other_fields_has_no_statuses(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, title="Ada", status="active"))
    drainer.take(
        event_body(model, at=minutes(1), title="Grace", status="active", finishedAt="2026-01-02T04:04:05+01:00")
    )
    _, change = drainer.changes(model)
    assert (change["from_status"], change["to_status"]) == (None, None)
    assert change["changed"] == {"title": ["Ada", "Grace"], "finished_at": [None, "2026-01-02T03:04:05+00:00"]}


def test_change_waits_for_its_turn_after_its_model_was_written(drainer: Drainer) -> None:
    # Slow work comes before the lock on the order of commits, which every writer of changes needs.
    model = new_id()
    drainer.put(event_body(model, at=T0, status="waiting"))
    copy = "insert into headshotpro.models (id, observed_at, updated_at) values (%s, now(), now())"
    waiting = """
        select from pg_locks join pg_database on pg_database.oid = database
        where datname = current_database() and locktype = 'advisory' and not granted
    """
    with psycopg.connect(drainer.url) as other, ThreadPoolExecutor() as pool:
        other.execute("select pg_advisory_xact_lock(%s)", [COMMIT_ORDER_LOCK])
        drain = pool.submit(drainer.drain)
        assert eventually(lambda: rows(drainer.url, waiting))
        other.execute("set local lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable), other.transaction():
            other.execute(copy, [model])
        other.rollback()
        assert drain.result(30).results == {"applied": 1}


def test_a_change_tells_its_source_and_its_times(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, event_id="evt_1", status="waiting"))
    (change,) = drainer.changes(model)
    assert (change["source"], change["event_id"], change["pull_id"]) == ("webhook", "evt_1", None)
    assert change["observed_at"] == T0
    assert T0 < change["recorded_at"] <= datetime.now(UTC)


def test_a_transaction_that_fails_leaves_neither_row_nor_change(drainer: Drainer) -> None:
    def fail(connection: Connection) -> None:
        apply(connection, [seen(new_id(), 0)], "pull")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction(drainer.engine) as connection:
        fail(connection)
    assert rows(drainer.url, "select 1 from headshotpro.models union all select 1 from headshotpro.model_changes") == []


def test_a_reader_who_remembers_the_greatest_id_misses_nothing(
    drainer: Drainer, database_url: str, redis_url: str
) -> None:
    # Writers commit out of the order in which they began; ids become visible in their order all the same.
    written: list[str] = []
    done = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with opened(database_url, redis_url) as own:
            for number in range(ROUNDS):
                models = [new_id() for _ in range(dice.randint(1, 3))]
                with transaction(own.engine) as connection:
                    apply(connection, [seen(model, number) for model in models], "pull")
                    time.sleep(dice.random() * 0.004)
                written.extend(models)

    def write_all() -> None:
        try:
            run_concurrently(*[partial(write, seed) for seed in range(WRITERS)])
        finally:
            done.set()

    read: list[str] = []

    def poll() -> None:
        newest = 0
        with psycopg.connect(database_url, autocommit=True) as connection:
            last_look = False
            while not last_look:
                last_look = done.is_set()
                query = "select id, model_id from headshotpro.model_changes where id > %s order by id"
                for number, model in connection.execute(query, [newest]):
                    newest = number
                    read.append(model)

    run_concurrently(write_all, poll)
    assert len(written) >= WRITERS * ROUNDS
    assert sorted(read) == sorted(written)


def test_listeners_are_told_the_newest_id_after_each_commit(drainer: Drainer, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("listen headshotpro_changes")
        model = new_id()
        drainer.take(event_body(model, at=T0, status="waiting"), event_body(model, at=minutes(1), status="pending"))
        # Neither a repetition nor a stale event adds a change.
        drainer.take(event_body(model, at=minutes(0.5), status="active"))
        drainer.take(event_body(model, at=minutes(2), status="active"))
        told = [notice.payload for notice in listener.notifies(timeout=5, stop_after=2)]
        told += [notice.payload for notice in listener.notifies(timeout=0.2)]
    ids = [change["id"] for change in drainer.changes(model)]
    assert told == [str(ids[1]), str(ids[2])]
