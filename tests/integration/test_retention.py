"""Retention: personal data of tombstones, webhook events and history are deleted; the rest stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg

from service.mirror.apply import apply
from service.mirror.erasure import erase_now
from service.mirror.merge import Observation
from service.mirror.replay import replay
from service.mirror.retention import RetentionLimits, apply_limits
from service.mirror.verify import Verifier
from service.storage.console_events import EventSearch
from service.storage.database import transaction
from tests.support.acting import TESTER
from tests.support.drainer import T0, TOLERANCE, minutes
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from tests.support.cli import Cli
    from tests.support.drainer import Drainer
    from tests.support.mirror import StartMirror

FOREVER = RetentionLimits(events=36500, history=0, personal=36500)
NAMES = ("Zoë Quux", "zoe@example.com", "anon_zoe", "female")


def nothing(_step: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


def test_accuracy_checks_are_removed_after_29_days(drainer: Drainer) -> None:
    with psycopg.connect(drainer.url) as connection:
        connection.execute(
            "insert into headshotpro.accuracy_checks (checked_at, method, model_id, agreed, fields) "
            "select now() - make_interval(days => day), 'sample', day::text, true, '{}' "
            "from unnest(array[0, 28, 30]) as day"
        )
    assert apply_limits(drainer.engine, FOREVER, 10)
    assert [row["model_id"] for row in rows(drainer.url, "select * from headshotpro.accuracy_checks")] == ["0", "28"]


def told(model: str, **fields: Any) -> bytes:
    """An event with a person's data."""
    return event_body(model, **{"title": "Zoë Quux", "uid": "anon_zoe", "trigger": "female", **fields})


def profile(drainer: Drainer, model: str) -> None:
    """A list page that shows the address."""
    seen = Observation(model, T0, T0, {"email": "zoe@example.com", "team_id": None, "team_name": None})
    with transaction(drainer.engine) as connection:
        apply(connection, [seen], "pull")


def dead_and_gone(drainer: Drainer) -> str:
    """A tombstone of which everything personal is known, its old values in its history."""
    model = new_id()
    drainer.take(told(model, at=T0, title="Zoë before", status="waiting"), told(model, at=minutes(1)))
    profile(drainer, model)
    drainer.take(told(model, event="model.deleted", at=minutes(2)))
    return model


def everything(url: str) -> str:
    """All that the database holds, as text."""
    tables = rows(url, "select table_name as name from information_schema.tables where table_schema = 'headshotpro'")
    held = [rows(url, f"select to_jsonb(t) as row from headshotpro.{table['name']} as t") for table in tables]
    return json.dumps(held, ensure_ascii=False)


def test_personal_data_of_an_expired_tombstone_is_erased(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    living = new_id()
    drainer.take(event_body(living, at=T0, title="Somebody alive"))
    before = everything(drainer.url)
    assert all(name in before for name in NAMES)
    assert apply_limits(drainer.engine, FOREVER._replace(personal=0), 10)
    after = everything(drainer.url)
    assert [name for name in (*NAMES, "Zoë before") if name in after] == []
    assert "Somebody alive" in after
    row = drainer.row(model)
    assert row["erased_at"] is not None
    assert (row["status"], row["email"], row["title"], row["uid"], row["trigger"]) == (
        "deleted",
        None,
        None,
        None,
        None,
    )


def test_erasure_is_recorded_and_every_status_change_is_kept(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    steps = [change["to_status"] for change in drainer.changes(model)]
    erase_now(drainer.engine, model, TESTER)
    changes = drainer.changes(model)
    assert [change["to_status"] for change in changes] == [*steps, None]
    assert changes[-1]["source"] == "erase"
    assert changes[-1]["changed"].keys() == {"email", "title", "uid", "trigger", "erased_at"}
    assert changes[0]["changed"]["title"] == [None, None]
    (then,) = rows(drainer.url, "select * from headshotpro.model_as_of(%s, now())", model)
    assert (then["status"], then["title"]) == ("deleted", None)


def test_a_tombstone_is_left_alone_until_its_time_has_come(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    # It died in January 2026.
    assert apply_limits(drainer.engine, FOREVER, 10)
    assert drainer.row(model)["erased_at"] is None


def test_nothing_personal_is_learned_again_of_an_erased_model(drainer: Drainer) -> None:
    model = dead_and_gone(drainer)
    erase_now(drainer.engine, model, TESTER)
    late = told(model, at=minutes(3), event_id="evt_late", status="active")
    drainer.take(late)
    drainer.take(told(model, at=minutes(4), event="model.deleted"))
    profile(drainer, model)
    alive = Observation(
        model, minutes(5), minutes(5), {"status": "active", "title": "Zoë Quux", "email": "zoe@example.com"}, alive=True
    )
    with transaction(drainer.engine) as connection:
        apply(connection, [alive], "refetch")
    assert [name for name in NAMES if name in everything(drainer.url)] == []
    # Its fields that are not personal are known as of any other model.
    assert drainer.row(model)["status"] == "active"
    assert drainer.event("evt_late")["payload"] is None
    assert [one.after for one in replay(drainer.engine, EventSearch(), TOLERANCE, ["evt_late"])] == ["erased"]


def test_verify_passes_over_what_was_erased(mirror: StartMirror) -> None:
    here = mirror(models=0, deleted="listed")
    model, other = (one["id"] for one in here.create(2, status="active"))
    here.pull()
    here.change(model, status="deleted")
    here.advance_vendor_clock()
    here.pull()
    erase_now(here.runtime.engine, model, TESTER)
    # It lives again at the vendor, who shows its name.
    here.change(model, status="active", deletedAt=None)
    here.advance_vendor_clock()
    here.pull()
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()
    row = here.model(model)
    assert (row["status"], row["title"], row["email"]) == ("active", None, None)
    engine, client = here.runtime.engine, here.runtime.client
    verifier = Verifier(engine, client, lambda _seconds: None, nothing, details=False, limit=100)
    assert verifier.differences() == []
    assert here.model(other)["title"]


# --- the command


def test_models_erase_does_it_at_once_and_only_to_the_dead(cli: Cli, drainer: Drainer) -> None:
    model, living = dead_and_gone(drainer), new_id()
    drainer.take(event_body(living, at=T0))
    asked = cli.run("models", "erase", model)
    assert (asked.status, asked.err.startswith(f"Erase the personal data of {model} (")) == (1, True)
    assert drainer.row(model)["erased_at"] is None
    done = cli.run("models", "erase", model, "--yes")
    assert (done.status, done.out) == (0, f"{model} is erased\n")
    assert (again := cli.run("models", "erase", model)).status == 0
    assert again.out == f"{model} was erased before\n"
    refused = cli.run("models", "erase", living)
    assert refused.status == 1
    assert f"{living} is active: only a deleted model can be erased" in refused.err
    assert drainer.row(living)["erased_at"] is None
    unknown = cli.run("models", "erase", "0" * 24)
    assert unknown.status == 1
    assert "has never seen" in unknown.err


# --- events and history


def test_retention_purges_events_and_history_by_own_limits(drainer: Drainer) -> None:
    models = [new_id() for _ in range(3)]
    drainer.take(*(event_body(model, at=T0) for model in models))
    with psycopg.connect(drainer.url) as connection:
        connection.execute("update headshotpro.webhook_events set received_at = now() - interval '31 days'")
        connection.execute("update headshotpro.model_changes set recorded_at = now() - interval '31 days'")
    drainer.take(event_body(models[0], at=minutes(1), status="failed", event_id="evt_young"))
    assert apply_limits(drainer.engine, FOREVER, 10)
    assert rows(drainer.url, "select count(*) from headshotpro.webhook_events") == [{"count": 4}]
    assert apply_limits(drainer.engine, FOREVER._replace(events=30), 10)
    assert [row["id"] for row in rows(drainer.url, "select id from headshotpro.webhook_events")] == ["evt_young"]
    assert rows(drainer.url, "select count(*) from headshotpro.model_changes") == [{"count": 4}]
    assert apply_limits(drainer.engine, FOREVER._replace(history=30), 10)
    (left,) = rows(drainer.url, "select model_id, to_status from headshotpro.model_changes")
    assert left == {"model_id": models[0], "to_status": "failed"}
    # The models themselves stay.
    assert rows(drainer.url, "select count(*) from headshotpro.models") == [{"count": 3}]


def test_what_a_drain_has_in_hand_is_not_waited_for(drainer: Drainer) -> None:
    drainer.take(event_body(new_id(), at=T0, event_id="evt_1"), event_body(new_id(), at=T0, event_id="evt_2"))
    with psycopg.connect(drainer.url) as connection:
        connection.execute("update headshotpro.webhook_events set received_at = now() - interval '31 days'")
    with psycopg.connect(drainer.url) as busy:
        busy.execute("select 1 from headshotpro.webhook_events where id = 'evt_1' for update")
        assert apply_limits(drainer.engine, FOREVER._replace(events=30), 10)
        assert [row["id"] for row in rows(drainer.url, "select id from headshotpro.webhook_events")] == ["evt_1"]


def test_an_end_to_the_time_leaves_the_rest_for_the_next_one(drainer: Drainer) -> None:
    dead_and_gone(drainer)
    assert not apply_limits(drainer.engine, FOREVER._replace(personal=0), 0)
    assert apply_limits(drainer.engine, FOREVER._replace(personal=0), 10)
