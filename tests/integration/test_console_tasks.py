"""Tasks that operators begin in the console, done by workers slice by slice: replays of many events."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.broker.inbox import Delivery
from service.errors import MirrorError
from service.mirror import tasks
from service.storage import audit
from service.storage import tasks as storage
from service.storage.console_events import EventSearch
from service.storage.database import transaction
from service.storage.merged import MergedRows, write
from tests.support.acting import TESTER
from tests.support.console import hidden_fields
from tests.support.console_tasks import acts, context_of, run_tasks, task, times
from tests.support.drainer import T0
from tests.support.operator import Operator
from tests.support.system import event_document, new_id
from workers import jobs
from workers.schedule import SCHEDULE

if TYPE_CHECKING:
    from tests.support.mirror import Mirror, StartMirror

DEAD = EventSearch(status="dead")


def keep_dead(mirror: Mirror, number: int) -> list[str]:
    """Events that died, though each can be applied now: the ids of their models."""
    models = [new_id() for _ in range(number)]
    rows = []
    for place, model in enumerate(models):
        at = T0 + timedelta(seconds=place)
        document = event_document(model, at=at, event_id=f"evt_{place}", status="active")
        rows.append({
            "id": document["id"], "event": document["event"], "model_id": model, "status": "dead", "error": "a fault",
            "payload": document, "created_at": at, "received_at": at, "signed_at": at, "delivery_ids": ["d"],
        })  # fmt: skip
    with transaction(mirror.runtime.engine) as connection:
        write(connection, MergedRows(events=rows), T0)
    return models


def statuses(mirror: Mirror) -> dict[str, int]:
    found = mirror.sql("select status, count(*) as number from headshotpro.webhook_events group by status")
    return {row["status"]: row["number"] for row in found}


def test_replay_of_all_that_match_is_done_by_a_worker(mirror: StartMirror) -> None:
    here = mirror(models=1)
    models = keep_dead(here, 250)
    operator = Operator(here)
    assert "250" in operator.page("replay-all", "status=dead").text
    shown = operator.do("replay-all", "status=dead")
    assert "0 of 250" in shown.text
    (begun,) = acts(here)
    assert (begun["action"], begun["outcome"], begun["detail"]["total"]) == ("events.replay", "begun", 250)

    run_tasks(here)

    assert statuses(here) == {"applied": 250}
    assert here.sql("select count(*) as n from headshotpro.models where id = any(%s)", models) == [{"n": 250}]
    assert (task(here)["status"], task(here)["done"], task(here)["failed"]) == ("done", 250, 0)
    (act,) = acts(here)
    assert (act["outcome"], act["detail"]["done"], act["detail"]["task"]) == ("done", 250, task(here)["id"])
    assert "It is done." in operator.open(f"/console/tasks/{task(here)['id']}").text


def test_task_survives_the_worker_that_did_a_part_of_it(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 250)
    # A filter that an event fits after its replay, too: only the place keeps them apart.
    tasks.begin_replay(here.runtime.engine, EventSearch(event="model.status.updated"), TESTER)
    tasks.run_slice(context_of(here, times(1)), 30)
    assert (task(here)["status"], task(here)["done"], statuses(here)) == ("running", 100, {"applied": 100, "dead": 150})
    # Another worker, as the schedule finds it.
    (due,) = [line.due for line in SCHEDULE if line.job is jobs.Job.RUN_TASKS]
    assert due(here.another())
    run_tasks(here)
    assert (task(here)["status"], task(here)["done"], statuses(here)) == ("done", 250, {"applied": 250})
    assert not due(here.another())


def test_cancelled_task_stops_after_its_batch(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 250)
    operator = Operator(here)
    operator.do("replay-all", "status=dead")
    number = str(task(here)["id"])
    context = context_of(here, times(1, lambda: operator.do("cancel", number)))
    tasks.run_slice(context, 30)
    run_tasks(here)
    assert statuses(here) == {"applied": 100, "dead": 150}
    assert (task(here)["status"], task(here)["done"]) == ("cancelled", 100)
    replay, cancel = acts(here)
    assert (replay["outcome"], replay["detail"]["cancelled"], replay["detail"]["done"]) == ("done", True, 100)
    assert (cancel["action"], cancel["target"], cancel["outcome"]) == ("task.cancel", number, "done")
    assert operator.page("cancel", number).text.count("cancelled already") == 1


def test_batch_in_flight_of_a_cancelled_task_is_counted(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=1)
    keep_dead(here, 150)
    number = tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    merged = tasks.replay_batch

    def cancel_meanwhile(*given: Any) -> Any:
        results = list(merged(*given))
        tasks.cancel(here.runtime.engine, number, TESTER)
        return results

    monkeypatch.setattr(tasks, "replay_batch", cancel_meanwhile)
    tasks.run_slice(context_of(here, times(9)), 30)
    assert (task(here)["status"], task(here)["done"]) == ("cancelled", 100)
    assert acts(here)[0]["detail"]["done"] == 100


def test_one_replay_runs_at_a_time(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 2)
    tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    with pytest.raises(MirrorError, match="another one runs"):
        tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    assert "replays events already" in Operator(here).page("replay-all", "status=dead").text
    assert len(acts(here)) == 1


def test_replay_of_all_leaves_out_what_came_after_its_page(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 2)
    operator = Operator(here)
    page = operator.page("replay-all", "status=dead")
    here.sql("update headshotpro.webhook_events set received_at = now() where id = 'evt_1'")
    sent = operator.browser.post(page.request.path, data=hidden_fields(page))
    assert "0 of 1" in operator.open(sent.headers["Location"]).text
    run_tasks(here)
    assert statuses(here) == {"applied": 1, "dead": 1}


def test_replay_of_all_without_the_time_of_its_page_is_refused(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 1)
    operator = Operator(here)
    page = operator.page("replay-all", "status=dead")
    form = {**hidden_fields(page), "previewed_at": "soon"}
    assert operator.browser.post(page.request.path, data=form).status_code == 400
    assert (acts(here), statuses(here)) == ([], {"dead": 1})


def test_filter_whose_time_names_no_zone_is_read_as_utc(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 2)
    operator, second = Operator(here), (T0 + timedelta(seconds=1)).replace(tzinfo=None)
    assert "0 of 1" in operator.do("replay-all", f"status=dead&until={second.isoformat()}").text


def test_replay_is_bounded(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=1)
    keep_dead(here, 5)
    monkeypatch.setattr(tasks, "MAX_EVENTS", 4)
    with pytest.raises(MirrorError, match="more than 4"):
        tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    with pytest.raises(MirrorError, match="no event"):
        tasks.begin_replay(here.runtime.engine, EventSearch(status="stale"), TESTER)
    assert "choose a narrower filter" in Operator(here).page("replay-all", "status=dead").text
    assert acts(here) == []


def test_webhooks_that_wait_go_before_a_task(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=1)
    keep_dead(here, 5)
    tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    monkeypatch.setattr(jobs, "MAX_EVENTS_AHEAD", 1)
    here.runtime.inbox.put(Delivery.arrived(b"{}", int(T0.timestamp()), T0))
    run_tasks(here)
    assert statuses(here) == {"dead": 5}
    here.apply_webhooks()
    run_tasks(here)
    assert task(here)["status"] == "done"


def test_task_that_our_code_cannot_do_fails_once(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=1)
    keep_dead(here, 5)
    tasks.begin_replay(here.runtime.engine, DEAD, TESTER)

    def crash(*_given: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "replay_batch", crash)
    tasks.run_slice(context_of(here, times(9)), 30)
    assert (task(here)["status"], acts(here)[0]["outcome"]) == ("failed", "failed")


def test_task_of_a_newer_release_is_left_to_its_workers(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 1)
    with transaction(here.runtime.engine) as connection:
        row_id = audit.record(connection, audit.Act(TESTER, "model.newer"), audit.BEGUN)
        storage.begin(connection, "newer", row_id, 1)
    tasks.begin_replay(here.runtime.engine, DEAD, TESTER)
    run_tasks(here)
    assert here.sql("select status from headshotpro.tasks order by id") == [{"status": "running"}, {"status": "done"}]
    assert [act["outcome"] for act in acts(here)] == ["begun", "done"]
    with transaction(here.runtime.engine) as connection:
        assert not storage.any_running(connection)


def test_task_that_failed_meanwhile_stays_failed(mirror: StartMirror) -> None:
    here = mirror(models=1)
    keep_dead(here, 150)
    number = tasks.begin_replay(here.runtime.engine, DEAD, TESTER)

    def fail() -> None:
        with transaction(here.runtime.engine) as connection:
            storage.end(connection, number, storage.FAILED, "another worker's 20 slices failed")
            audit.end(connection, task(here)["audit_id"], audit.FAILED, {"reason": "20 slices failed"})

    calls = times(0, fail)
    tasks.run_slice(context_of(here, lambda: calls() or True), 30)
    (act,) = acts(here)
    assert (act["outcome"], act["detail"]["done"], task(here)["status"]) == ("failed", 100, "failed")
