"""A large batch is merged in parts, one while Postgres writes the one before: it ends as a batch in one part does."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.mirror import apply as applying
from service.mirror import batches, merging_batch
from service.mirror.batches import PART_SIZE
from tests.support.drainer import T0, Drainer, forbid_single_event_batches
from tests.support.processes import TEST_TIMEOUT_SECONDS, eventually
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from service.mirror.drain import DrainResult
    from service.mirror.merge import KnownState, MergeResult, Observation

LARGE = 4 * PART_SIZE
# The columns in which two runs differ: our own times and ids.
OWN = ("id", "updated_at", "recorded_at", "received_at", "processed_at", "signed_at", "due_at", "delivery_ids", "after")


def bodies_of_a_burst() -> list[bytes]:
    """Events of every kind about few and many models, in no order, some twice, some unusable or of a later vendor."""
    draw = random.Random(7)
    models = [f"{number:024x}" for number in range(300)]
    found = []
    for number in range(LARGE):
        model, at = draw.choice(models), T0 + timedelta(seconds=draw.randrange(600))
        event = draw.choice(["model.created", "model.status_changed", "model.deleted", "model.photos_ready"])
        status = draw.choice(["active", "pending", "failed", "later"])
        found.append(event_body(model, event, at=at, event_id=f"evt_{number}", status=status, title=f"t{number % 9}"))
    found += draw.sample(found, 50)
    found += [b"{", event_body("", at=T0, event_id="evt_no_id"), b'{"id": "evt_ping", "event": "ping"}']
    draw.shuffle(found)
    return found


TABLES = {
    "models": "id",
    "model_clocks": "model_id",
    "webhook_events": "model_id, payload::text",
    "model_changes": "model_id, id",
    "refetch_requests": "model_id",
}


def take_stored(drainer: Drainer) -> dict[str, list[dict[str, Any]]]:
    """What the tables hold, of each model its changes in their order; then they are emptied."""
    found = {}
    for table, order in TABLES.items():
        own = OWN[1:] if table == "models" else OWN
        kept = rows(drainer.url, f"select * from headshotpro.{table} order by {order}")
        found[table] = [{name: value for name, value in row.items() if name not in own} for row in kept]
    with psycopg.connect(drainer.url) as connection:
        connection.execute(f"truncate {', '.join(f'headshotpro.{table}' for table in TABLES)}")
    return found


def test_large_batch_ends_as_in_one_part(drainer: Drainer, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_single_event_batches(monkeypatch)
    bodies, ends = bodies_of_a_burst(), []
    for size in (PART_SIZE, 10 * LARGE):
        monkeypatch.setattr(batches, "PART_SIZE", size)
        drainer.put(*bodies)
        results = drainer.drain(2 * LARGE).results
        drainer.assert_empty()
        ends.append((results, take_stored(drainer)))
    (in_parts, stored_in_parts), (in_one, stored_in_one) = ends
    assert in_parts == in_one
    assert stored_in_parts == stored_in_one
    assert len(stored_in_one["models"]) > 200
    assert {"applied", "stale", "dead"} <= {*in_one}


def test_processed_events_of_a_large_batch_change_nothing(drainer: Drainer) -> None:
    bodies = [event_body(new_id(), at=T0, event_id=f"evt_{number}") for number in range(2 * PART_SIZE)]
    drainer.put(*bodies)
    assert drainer.drain(LARGE).results == {"applied": len(bodies)}
    new = [event_body(new_id(), at=T0, event_id=f"evt_new_{number}") for number in range(PART_SIZE)]
    drainer.put(*bodies, *new)
    assert drainer.drain(LARGE).results == {"repeated": len(bodies), "applied": len(new)}
    assert rows(drainer.url, "select count(*) from headshotpro.model_changes") == [{"count": len(bodies) + len(new)}]
    deliveries = rows(drainer.url, "select deliveries, count(*) from headshotpro.webhook_events group by 1 order by 1")
    assert deliveries == [{"deliveries": 1, "count": len(new)}, {"deliveries": 2, "count": len(bodies)}]


@pytest.fixture
def refused_title(drainer: Drainer) -> str:
    """A title that a trigger of a person refuses."""
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(
            "create function headshotpro.refuse() returns trigger language plpgsql as "
            "$$ begin raise exception 'no'; end $$"
        )
        connection.execute(
            "create trigger refuse before insert or update on headshotpro.models for each row "
            "when (new.title = 'refused') execute function headshotpro.refuse()"
        )
    return "refused"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """The events of two small parts: the events of a batch that fails are applied one by one, which takes long."""
    monkeypatch.setattr(batches, "PART_SIZE", 50)
    return 2 * batches.PART_SIZE


@pytest.mark.parametrize("place", [pytest.param(0, marks=pytest.mark.long), -1], ids=["first", "last"])
def test_part_that_postgres_refuses_takes_back_the_whole_batch(
    drainer: Drainer, refused_title: str, place: int, few: int
) -> None:
    """Whichever part it is, the others are applied one by one, each once; no thread is left."""
    number = few
    others = {*threading.enumerate()}
    bodies = [event_body(f"{one:024x}", at=T0, title="Ada") for one in range(number)]
    bodies[place] = event_body(f"{place % number:024x}", at=T0, title=refused_title)
    drainer.put(*bodies)
    assert drainer.drain(LARGE).results == {"applied": number - 1, "dead": 1}
    assert rows(drainer.url, "select count(*) from headshotpro.model_changes") == [{"count": number - 1}]
    assert not [thread for thread in {*threading.enumerate()} - others if thread.name.startswith("writing-part")]
    drainer.assert_empty()


def test_part_that_fails_to_merge_takes_back_written_ones(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    number = few
    last = f"{number - 1:024x}"
    real = merging_batch.merge

    def merge(known: KnownState, seen: Observation) -> MergeResult:
        if seen.model_id == last:
            raise KeyError("title")
        return real(known, seen)

    monkeypatch.setattr(merging_batch, "merge", merge)
    drainer.put(*[event_body(f"{one:024x}", at=T0) for one in range(number)])
    assert drainer.drain(LARGE).results == {"applied": number - 1, "dead": 1}
    assert rows(drainer.url, "select count(*) from headshotpro.model_changes") == [{"count": number - 1}]
    drainer.assert_empty()


def test_changes_of_a_part_are_in_order_for_each_model(drainer: Drainer) -> None:
    model = new_id()
    steps = [event_body(model, at=T0 + timedelta(seconds=n), title=f"{n}") for n in range(20)]
    others = [event_body(new_id(), at=T0) for _ in range(3 * PART_SIZE)]
    mixed = [*steps, *others]
    random.Random(1).shuffle(mixed)
    drainer.put(*mixed)
    drained = drainer.drain(LARGE)
    assert drained.results == {"applied": len(mixed)}
    titles = [change["changed"]["title"][1] for change in drainer.changes(model)]
    assert titles == [f"{n}" for n in range(20)]
    assert rows(drainer.url, "select max(id) from headshotpro.model_changes") == [{"max": drained.last_change_id}]


def test_redelivered_large_batch_locks_events_as_erasure_does(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of event ids is the reverse of that of models, and so of parts."""
    forbid_single_event_batches(monkeypatch)
    number = 2 * PART_SIZE
    bodies = [event_body(f"{one:024x}", at=T0, event_id=f"evt_{number - one:05}") for one in range(number)]
    for _ in range(2):
        drainer.put(*bodies)
    assert drainer.drain(number).results == {"applied": number}
    found: list[DrainResult] = []
    draining = threading.Thread(target=lambda: found.append(drainer.drain(number)))
    with psycopg.connect(drainer.url) as erasure:
        lock = "select from headshotpro.webhook_events where id = %s for update"
        erasure.execute(lock, ["evt_00001"])
        draining.start()
        assert eventually(lambda: rows(drainer.url, "select from pg_locks where not granted"))
        erasure.execute(lock, [f"evt_{number:05}"])
    draining.join(TEST_TIMEOUT_SECONDS)
    assert [drained.results for drained in found] == [{"repeated": number}]
    drainer.assert_empty()


def test_parts_that_take_too_long_are_applied_one_by_one(
    drainer: Drainer, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(applying, "PARTS_SECONDS", 0.0)
    drainer.put(*[event_body(new_id(), at=T0) for _ in range(few)])
    assert drainer.drain(LARGE).results == {"applied": few}
    assert rows(drainer.url, "select count(distinct recorded_at) from headshotpro.model_changes") == [{"count": few}]
