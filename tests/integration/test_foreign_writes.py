"""Other programs that write into `models` while batches do: nothing blocks for good, and nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING

import psycopg

from service.mirror import drain as draining
from service.mirror.apply import apply
from service.mirror.batches import BATCH_SIZE
from service.mirror.merge import Observation
from service.mirror.retention import RetentionLimits, apply_limits
from service.storage.database import transaction
from service.storage.merged import lock
from tests.support.processes import eventually
from tests.support.time_travel import known

if TYPE_CHECKING:
    from tests.support.mirror import Mirror, StartMirror

WAITING = """
select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
"""


def test_foreign_write_waits_for_no_clock_of_a_batch(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.sql("set lock_timeout = '2s'")
    with transaction(here.runtime.engine) as connection:
        lock(connection, [model_id])
        # A batch that wrote this row next would otherwise wait for a statement that waits for the batch.
        here.sql("update headshotpro.models set title = 'Mallory' where id = %s", model_id)
    assert here.pull()["rows_differed"] == 1
    assert here.differences() == []


def test_foreign_write_during_a_pull_is_found_by_the_next(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    with psycopg.connect(here.settings.database_url) as other:
        other.execute("update headshotpro.models set title = 'Mallory' where id = %s", [model_id])
        assert here.pull()["rows_differed"] == 0
    assert here.pull()["rows_differed"] == 1
    assert here.differences() == []


def test_retention_keeps_one_note_of_a_row_written_often(mirror: StartMirror) -> None:
    here = mirror(models=0)
    first, second, *_ = known(here)
    for place in range(3):
        here.sql("update headshotpro.models set title = %s where id = any(%s)", str(place), [first, second])
    assert apply_limits(here.runtime.engine, RetentionLimits(events=30, history=0, personal=30), 10)
    assert {row["model_id"] for row in here.sql("select model_id from headshotpro.foreign_writes")} == {first, second}
    assert here.sql("select count(*) as number from headshotpro.foreign_writes") == [{"number": 2}]
    assert here.pull()["rows_differed"] == 2
    assert here.differences() == []


def test_drain_that_deadlocks_with_a_mass_update_loses_nothing(mirror: StartMirror) -> None:
    here = mirror(models=0)
    first, second, *_ = sorted(known(here))
    for model_id in (first, second):
        here.change(model_id, status="failed", events=True)
    assert eventually(lambda: here.runtime.inbox.depth().events == 2)
    drains = Thread(target=drain_all, args=(here,))
    with psycopg.connect(here.settings.database_url) as other:
        other.execute("set deadlock_timeout = '10s'")
        write = "update headshotpro.models set title = 'Mallory' where id = %s"
        other.execute(write, [second])
        drains.start()
        # The batch has the first row by now, and waits for the second.
        assert eventually(lambda: here.sql(WAITING))
        other.execute(write, [first])
    drains.join(20)
    drain_all(here)
    assert here.sql("select count(*) as n from headshotpro.webhook_events where status = 'applied'") == [{"n": 2}]
    assert [here.model(model_id)["status"] for model_id in (first, second)] == ["failed", "failed"]
    here.advance_vendor_clock()
    here.pull()
    assert here.differences() == []


def drain_all(here: Mirror) -> None:
    inbox = here.runtime.inbox
    while entries := inbox.read(BATCH_SIZE, 0):
        draining.drain_batch(here.runtime.engine, inbox, entries, here.runtime.tolerance)


def test_overlapping_pages_count_a_wrong_row_once(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here, status="waiting")[0]
    pull = here.pull()
    at, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (60, 61))
    seen = [
        Observation(model_id, at, at, {"status": "pending"}),
        Observation(model_id, later, later, {"status": "active"}),
    ]
    with transaction(here.runtime.engine) as connection:
        apply(connection, seen, "pull", pull_id=pull["id"])
    (check,) = here.sql("select * from headshotpro.accuracy_checks")
    assert check["model_id"] == model_id
