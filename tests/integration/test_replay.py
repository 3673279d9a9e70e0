"""`events replay`: kept events are merged again; what could not be applied now is, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.mirror.replay import ReplayResult, replay
from service.storage.console_events import EventSearch
from tests.support.drainer import T0, TOLERANCE, minutes, raw
from tests.support.system import event_body, event_document, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cli import Cli
    from tests.support.drainer import Drainer


def replayed(drainer: Drainer, ids: Sequence[str] | None = None, **wanted: Any) -> list[ReplayResult]:
    return list(replay(drainer.engine, EventSearch(**wanted), TOLERANCE, ids))


def poison(drainer: Drainer, *, on: bool) -> None:
    """Postgres refuses rows of models with a certain title, as a user's trigger might; or no longer."""
    change = "add constraint poison check (title <> 'poison')" if on else "drop constraint poison"
    with psycopg.connect(drainer.url, autocommit=True) as connection:
        connection.execute(f"alter table headshotpro.models {change}")


def test_replay_applies_a_dead_event_once_its_cause_is_removed(drainer: Drainer) -> None:
    model, good = new_id(), new_id()
    poison(drainer, on=True)
    told = [event_body(model, at=T0, event_id="evt_bad", title="poison"), event_body(good, at=T0)]
    assert drainer.take(*told) == {"dead": 1, "applied": 1}
    dead = ReplayResult("evt_bad", "dead", "dead", "Postgres refused it: CheckViolation")
    assert replayed(drainer, status="dead") == [dead]
    poison(drainer, on=False)
    assert replayed(drainer, status="dead") == [ReplayResult("evt_bad", "dead", "applied", None)]
    assert drainer.row(model)["title"] == "poison"
    (change,) = drainer.changes(model)
    assert (change["source"], change["event_id"]) == ("webhook", "evt_bad")
    event = drainer.event("evt_bad")
    assert (event["status"], event["error"], event["deliveries"]) == ("applied", None, 1)


def test_a_replay_leaves_out_events_that_come_meanwhile(drainer: Drainer) -> None:
    drainer.take(event_body(new_id(), at=T0, event_id="evt_old"))
    going_on = replay(drainer.engine, EventSearch(status="applied"), TOLERANCE)
    assert next(going_on).id == "evt_old"
    drainer.take(event_body(new_id(), at=T0, event_id="evt_new"))
    assert list(going_on) == []


def test_a_replay_of_everything_changes_no_model_and_no_history(drainer: Drainer) -> None:
    models = [new_id() for _ in range(3)]
    for number, model in enumerate(models):
        drainer.take(event_body(model, at=minutes(number), status="waiting", title=f"Zoë {number}"))
        drainer.take(event_body(model, at=minutes(number + 2), status="active"))
        drainer.take(event_body(model, at=minutes(number + 1), status="failed"))
    drainer.take(event_body(models[0], "model.deleted", at=minutes(9)))
    before = [(drainer.row(model), drainer.changes(model)) for model in models]
    assert len(replayed(drainer, since=T0)) == 10
    assert [(drainer.row(model), drainer.changes(model)) for model in models] == before


def test_a_late_replay_does_not_undo_what_is_newer(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="waiting", event_id="evt_old"))
    drainer.take(event_body(model, "model.deleted", at=minutes(1)))
    drainer.take(event_body(model, at=minutes(0.5), status="failed", event_id="evt_late"))
    told = {one.id: (one.before, one.after) for one in replayed(drainer, model_id=model)}
    # A merged event stays merged, although a newer one has come.
    assert (told["evt_old"], told["evt_late"]) == (("applied", "applied"), ("stale", "stale"))
    assert [drainer.event(name)["status"] for name in ("evt_old", "evt_late")] == ["applied", "stale"]
    assert drainer.row(model)["status"] == "deleted"


def test_replay_of_event_without_time_keeps_signature_and_id(drainer: Drainer) -> None:
    document = event_document(new_id(), status="active")
    del document["createdAt"], document["id"]
    drainer.take(raw(document), signed_at=T0)
    (before,) = replayed(drainer, model_id=document["object"]["_id"])
    assert before.id.startswith("sha256:")
    assert drainer.event(before.id)["signed_at"] == T0
    assert len(drainer.changes(document["object"]["_id"])) == 1


@pytest.mark.parametrize("count", [499, 1001])
def test_any_number_is_replayed_each_once(drainer: Drainer, count: int) -> None:
    told = [event_body(new_id(), at=T0) for _ in range(count)]
    for begin in range(0, count, 500):
        drainer.take(*told[begin : begin + 500])
    seen = replayed(drainer, status="applied")
    assert (len(seen), len({one.id for one in seen})) == (count, count)


def test_an_event_whose_body_was_erased_is_left_alone(drainer: Drainer) -> None:
    drainer.take(event_body(new_id(), at=T0, event_id="evt_1"))
    with psycopg.connect(drainer.url) as connection:
        connection.execute("update headshotpro.webhook_events set payload = null")
    assert replayed(drainer, ids=["evt_1"]) == [ReplayResult("evt_1", "applied", "erased", None)]


# --- the command


def test_replay_command_replays_selection_and_prints_results(cli: Cli, drainer: Drainer) -> None:
    drainer.take(event_body(new_id(), at=T0, event_id="evt_1"), b"no webhook at all")
    done = cli.run("events", "replay", "evt_1", "--json")
    assert done.status == 0
    assert done.document == [{"id": "evt_1", "before": "applied", "after": "applied", "error": None}]
    # An event that is still dead is a finding.
    still = cli.run("events", "replay", "--status", "dead", "--json")
    assert still.status == 1
    assert [(one["before"], one["after"]) for one in still.document] == [("dead", "dead")]
    everything = cli.run("events", "replay", "--since", "2026-01-01", "--until", "2999-01-01", "--json")
    assert [one["after"] for one in everything.document] == ["applied", "dead"]
    assert cli.run("events", "replay", "--event", "model.created", "--json").document == []


def test_replay_command_needs_a_selection_and_names_unknown_ids(cli: Cli, drainer: Drainer) -> None:
    drainer.take(event_body(new_id(), at=T0, event_id="evt_1"))
    nothing = cli.run("events", "replay")
    assert nothing.status == 2
    assert "name the events by ids" in nothing.err
    unknown = cli.run("events", "replay", "evt_1", "evt_2")
    assert unknown.status == 1
    assert "there is no event evt_2" in unknown.err
