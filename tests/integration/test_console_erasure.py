"""Erasing by a person: a task of the console, or a command; a row in the audit log is there before the first write."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.inbox import Delivery
from service.errors import MirrorError, PostgresUnavailable
from service.mirror import erasure, tasks
from service.mirror.apply import apply_parts
from service.mirror.drain import drain_batch
from service.storage import console_events
from service.storage import erasure as storage
from service.storage import tasks as task_storage
from service.storage.database import transaction
from service.storage.merged import MergedRows, write
from tests.support.acting import TESTER
from tests.support.cli import Cli
from tests.support.console_tasks import acts, context_of, run_tasks, times
from tests.support.drainer import T0
from tests.support.operator import Operator, path_of
from tests.support.processes import eventually
from tests.support.system import event_body, event_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from service.mirror.apply import Part
    from service.mirror.merging_batch import BatchResult
    from tests.support.mirror import Mirror

EVENTS = 7


@pytest.fixture
def here(mirrored: Mirror, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A mirror whose searches take two events at a time."""
    monkeypatch.setattr(erasure, "EVENT_BATCH_SIZE", 2)
    return mirrored


def tombstone(here: Mirror, place: int = 0) -> str:
    """A deleted model, and events about another one that name its person."""
    model = min(here.live_ids())
    address = here.model(model)["email"]
    Operator(here).do("delete", model)
    here.sql("delete from headshotpro.audit_log")
    rows = []
    for number in range(EVENTS):
        at = T0 + timedelta(seconds=number)
        document = event_document(max(here.live_ids()), at=at, event_id=f"evt_{place}_{number}", note=address)
        rows.append({
            "id": document["id"], "event": document["event"], "model_id": max(here.live_ids()), "status": "stale",
            "error": None, "payload": document, "created_at": at, "received_at": at, "signed_at": at,
            "delivery_ids": ["d"],
        })  # fmt: skip
    with transaction(here.runtime.engine) as connection:
        write(connection, MergedRows(events=rows), T0)
    return model


def bodies(here: Mirror) -> int:
    (found,) = here.sql("select count(payload) as n from headshotpro.webhook_events where starts_with(id, 'evt_')")
    return int(found["n"])


def all_tasks(here: Mirror) -> list[dict[str, Any]]:
    return here.sql("select * from headshotpro.tasks order by id")


def test_worker_erases_and_the_page_shows_how_far_it_is(here: Mirror) -> None:
    model, operator = tombstone(here), Operator(here)
    assert f"0 of {EVENTS}" in operator.do("erase", model).text
    (begun,) = acts(here)
    assert (begun["action"], begun["target"], begun["outcome"]) == ("model.erase", model, "begun")
    run_tasks(here)
    assert here.model(model)["erased_at"] is not None
    assert (here.model(model)["email"], bodies(here)) == (None, 0)
    (act,) = acts(here)
    assert (act["outcome"], act["detail"]["searched"]) == ("done", EVENTS)
    assert "It is done." in operator.open(f"/console/tasks/{act['detail']['task']}").text
    assert "is erased for good" in operator.open(f"/console/audit/{act['id']}").text


def test_erasing_twice_writes_no_second_row(here: Mirror, folder: Path) -> None:
    model, operator = tombstone(here), Operator(here)
    operator.do("erase", model)
    again = operator.browser.post(path_of("erase", model), data={"csrf_token": operator.csrf()})
    assert (again.status_code, "erases" in again.text) == (409, True)
    run_tasks(here)
    again = operator.browser.post(path_of("erase", model), data={"csrf_token": operator.csrf()})
    assert (again.status_code, "was erased before" in again.text) == (409, True)
    assert "nothing is left to erase" in operator.page("erase", model).text
    by_command = Cli(folder, **here.variables).run("models", "erase", model, "--yes")
    assert "was erased before" in by_command.out
    assert [act["outcome"] for act in acts(here)] == ["done"]


def test_erasure_goes_on_where_its_worker_died(here: Mirror) -> None:
    model = tombstone(here)
    tasks.begin_erasure(here.runtime.engine, model, TESTER)
    tasks.run_slice(context_of(here, times(1)), 30)
    assert (all_tasks(here)[0]["status"], all_tasks(here)[0]["done"], bodies(here)) == ("running", 2, EVENTS - 2)
    assert (here.model(model)["erased_at"], acts(here)[0]["outcome"]) == (None, "begun")
    tasks.run_slice(context_of(here, times(99)), 30)
    assert (all_tasks(here)[0]["status"], bodies(here), acts(here)[0]["outcome"]) == ("done", 0, "done")


def test_second_erasure_waits_for_its_turn(here: Mirror) -> None:
    models = [tombstone(here, place) for place in range(2)]
    operator = Operator(here)
    pages = [operator.do("erase", model).text for model in models]
    assert "It waits for a worker" in pages[1]
    tasks.run_slice(context_of(here, times(1)), 30)
    assert [task["status"] for task in all_tasks(here)] == ["running", "waiting"]
    run_tasks(here)
    run_tasks(here)
    assert [task["status"] for task in all_tasks(here)] == ["done", "done"]
    assert all(here.model(model)["erased_at"] for model in models)
    assert [act["outcome"] for act in acts(here)] == ["done", "done"]


def test_erasure_that_comes_second_says_that_nothing_was_left(here: Mirror) -> None:
    model = tombstone(here)
    tasks.begin_erasure(here.runtime.engine, model, TESTER)
    assert erasure.erase_now(here.runtime.engine, model, TESTER)
    run_tasks(here)
    by_task, by_command = acts(here)
    assert (by_task["outcome"], by_task["detail"]["nothing_left"], by_command["detail"]) == ("done", True, {})
    assert "Nothing was left to erase" in Operator(here).open(f"/console/audit/{by_task['id']}").text


def test_cancelled_erasure_leaves_the_personal_data(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tombstone(here)
    number = tasks.begin_erasure(here.runtime.engine, model, TESTER)
    erase = storage.erase

    def cancel_meanwhile(*given: Any) -> Any:
        tasks.cancel(here.runtime.engine, number, TESTER)
        return erase(*given)

    monkeypatch.setattr(storage, "erase", cancel_meanwhile)
    tasks.run_slice(context_of(here, times(99)), 30)
    assert (all_tasks(here)[0]["status"], here.model(model)["erased_at"]) == ("cancelled", None)
    act = acts(here)[0]
    assert (act["outcome"], act["detail"]["cancelled"]) == ("done", True)
    assert "the model keeps its personal data" in Operator(here).open(f"/console/audit/{act['id']}").text


def test_erasure_that_is_cancelled_as_its_turn_comes_stays_so(here: Mirror) -> None:
    engine = here.runtime.engine
    number = tasks.begin_erasure(engine, tombstone(here), TESTER)
    worker = threading.Thread(target=tasks.run_slice, args=(context_of(here, times(99)), 30))
    with transaction(engine) as connection:
        task_storage.end(connection, number, task_storage.CANCELLED)
        worker.start()
        assert eventually(lambda: here.sql("select pid from pg_locks where not granted"))
    worker.join(30)
    assert (all_tasks(here)[0]["status"], bodies(here)) == ("cancelled", EVENTS)


def test_model_that_lives_again_is_not_erased(here: Mirror) -> None:
    model = tombstone(here)
    tasks.begin_erasure(here.runtime.engine, model, TESTER)
    here.sql("update headshotpro.models set status = 'active', deleted_at = null where id = %s", model)
    run_tasks(here)
    (act,) = acts(here)
    assert (all_tasks(here)[0]["status"], act["outcome"]) == ("failed", "failed")
    assert "only a deleted model can be erased" in act["detail"]["reason"]
    with pytest.raises(MirrorError, match="only a deleted model"):
        tasks.begin_erasure(here.runtime.engine, model, TESTER)


def test_model_that_lives_again_in_mid_search_is_not_erased(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tombstone(here)
    search = erasure.search_slice

    def revive(*given: Any) -> Any:
        here.sql("update headshotpro.models set status = 'active', deleted_at = null where id = %s", model)
        return search(*given)

    monkeypatch.setattr(erasure, "search_slice", revive)
    tasks.begin_erasure(here.runtime.engine, model, TESTER)
    run_tasks(here)
    here.sql("update headshotpro.models set status = 'deleted', deleted_at = now() where id = %s", model)
    with pytest.raises(MirrorError, match="only a deleted model"):
        erasure.erase_now(here.runtime.engine, model, TESTER)
    by_task, by_command = acts(here)
    assert (all_tasks(here)[0]["status"], by_task["outcome"], by_command["outcome"]) == ("failed", "failed", "failed")
    assert "only a deleted model can be erased" in by_task["detail"]["reason"]
    assert here.model(model)["erased_at"] is None


def test_one_of_two_erasures_of_a_model_at_once_begins(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model, count, refused = tombstone(here), console_events.count, threading.Event()

    def begin_again() -> None:
        with suppress(MirrorError):
            tasks.begin_erasure(here.runtime.engine, model, TESTER)
            return
        refused.set()

    other = threading.Thread(target=begin_again)

    def count_beside_another(*given: Any) -> int:
        if other.ident is None:
            other.start()
            assert eventually(lambda: here.sql("select pid from pg_locks where not granted") or not other.is_alive())
        return count(*given)

    monkeypatch.setattr(console_events, "count", count_beside_another)
    tasks.begin_erasure(here.runtime.engine, model, TESTER)
    other.join(30)
    assert (len(all_tasks(here)), len(acts(here)), refused.is_set()) == (1, 1, True)


def test_erasure_whose_commit_got_no_response_stays_done(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model, erase_rows = tombstone(here), erasure.erase_rows

    def lose_the_response(*given: Any) -> int:
        erase_rows(*given)
        raise PostgresUnavailable("cut off")

    monkeypatch.setattr(erasure, "erase_rows", lose_the_response)
    with pytest.raises(PostgresUnavailable):
        erasure.erase_now(here.runtime.engine, model, TESTER)
    assert here.model(model)["erased_at"] is not None
    assert [act["outcome"] for act in acts(here)] == ["done"]


def test_command_that_is_interrupted_leaves_a_row(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tombstone(here)
    outcomes = []

    def interrupt(*_given: object) -> None:
        outcomes.extend(act["outcome"] for act in acts(here))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage, "erase_payloads", interrupt)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase_now(here.runtime.engine, model, TESTER)
    # A process that is killed leaves the first.
    assert (outcomes, acts(here)[0]["outcome"]) == (["begun"], "unknown")
    assert "if not, erase it again" in Operator(here).open(f"/console/audit/{acts(here)[0]['id']}").text
    assert erasure.erase_now(here.runtime.engine, model, TESTER)
    assert [act["outcome"] for act in acts(here)] == ["unknown", "done"]


def test_dead_event_during_an_erasure_keeps_no_body(here: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    model, erase = tombstone(here), storage.erase
    here.runtime.inbox.put(Delivery.arrived(event_body(model, at=T0, event_id="evt_dead"), int(T0.timestamp()), T0))

    def fail(connection: Connection, parts: Sequence[Part], *rest: Any, **options: Any) -> list[BatchResult]:
        if any(part.observations for part in parts):
            raise KeyError(model)
        return apply_parts(connection, parts, *rest, **options)

    def drain() -> None:
        entries = here.runtime.inbox.read(1, 0)
        drain_batch(here.runtime.engine, here.runtime.inbox, entries, here.runtime.tolerance)

    other = threading.Thread(target=drain)

    def erase_beside_it(*given: Any) -> Any:
        erased = erase(*given)
        other.start()
        assert eventually(lambda: here.sql("select pid from pg_locks where not granted") or not other.is_alive())
        return erased

    monkeypatch.setattr("service.mirror.drain.apply_parts", fail)
    monkeypatch.setattr("service.mirror.drain.ALONE_LOCK_SECONDS", 30)
    monkeypatch.setattr(storage, "erase", erase_beside_it)
    assert erasure.erase_now(here.runtime.engine, model, TESTER)
    other.join(30)
    (event,) = here.sql("select * from headshotpro.webhook_events where id = 'evt_dead'")
    assert (event["status"], event["model_id"], event["payload"]) == ("dead", model, None)
