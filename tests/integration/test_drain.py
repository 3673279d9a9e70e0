"""The drain over real servers: what becomes of each kind of event, alone, in batches and in two drains at once."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from service.broker.inbox import STREAM
from service.mirror.apply import apply
from service.mirror.drain import drain_batch
from service.mirror.merge import Observation
from service.storage.database import transaction
from tests.support.drainer import T0, TOLERANCE, Drainer, minutes, opened, raw
from tests.support.system import event_body, event_document, model_row, new_id, rows
from tests.support.threads import run_concurrently


def test_deleted_model_becomes_tombstone_and_change_names_event(drainer: Drainer) -> None:
    model = new_id()
    said = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
    # The status of its body says something else: the event's name counts.
    body = event_body(model, "model.deleted", at=T0, event_id="evt_gone", title="Ada", deletedAt=said.isoformat())
    assert drainer.take(body) == {"applied": 1}
    row = drainer.row(model)
    assert (row["status"], row["deleted_at"], row["title"], row["observed_at"]) == ("deleted", said, "Ada", T0)
    (change,) = drainer.changes(model)
    assert (change["from_status"], change["to_status"]) == (None, "deleted")
    assert (change["source"], change["event_id"], change["observed_at"]) == ("webhook", "evt_gone", T0)
    drainer.assert_empty()


def test_row_holds_webhook_fields_and_null_for_all_others(drainer: Drainer) -> None:
    model = new_id()
    told = {
        "uid": "u1",
        "title": "Ada",
        "trigger": "female",
        "status": "active",
        "isDevelopment": True,
        "finishedAt": "2026-01-02T03:04:05.678Z",
        "deletedAt": None,
        "inviteExpiresAt": "2026-02-02T00:00:00+02:00",
        "createdAt": "2026-01-01T00:00:00Z",
        "organization": "org1",
    }
    assert drainer.take(event_body(model, at=T0, **told)) == {"applied": 1}
    row = drainer.row(model)
    assert abs(row.pop("updated_at") - datetime.now(UTC)) < timedelta(minutes=1)
    assert row == {
        "id": model,
        "uid": "u1",
        "email": None,
        "title": "Ada",
        "status": "active",
        "team_id": None,
        "team_name": None,
        "is_development": True,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "finished_at": datetime(2026, 1, 2, 3, 4, 5, 678000, UTC),
        "deleted_at": None,
        "trigger": "female",
        "invite_expires_at": datetime(2026, 2, 1, 22, tzinfo=UTC),
        "organization_id": "org1",
        "photo_count": None,
        "favorite_photo_id": None,
        "observed_at": T0,
        "erased_at": None,
    }


def test_an_event_is_kept_with_its_times_and_its_payload(drainer: Drainer) -> None:
    document = event_document(new_id(), at=T0, event_id="evt_kept", title="Ångström")
    drainer.take(raw(document))
    event = drainer.event("evt_kept")
    assert event["payload"] == document
    assert (event["event"], event["model_id"], event["status"]) == (
        "model.status.updated",
        document["object"]["_id"],
        "applied",
    )
    assert (event["error"], event["created_at"], event["deliveries"]) == (None, T0, 1)
    assert T0 < event["received_at"] <= event["processed_at"]


def test_burst_in_any_order_ends_in_newest_with_all_changes(drainer: Drainer) -> None:
    model = new_id()
    steps = ["onboarding", "waiting", "pending", "generatingHeadshots", "active"]
    bodies = [event_body(model, at=minutes(number), status=status) for number, status in enumerate(steps)]
    random.Random(1).shuffle(bodies)
    assert drainer.take(*bodies) == {"applied": 5}
    assert drainer.row(model)["status"] == "active"
    assert [change["to_status"] for change in drainer.changes(model)] == steps


def test_an_event_that_comes_late_is_stale_and_changes_nothing(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=minutes(5), status="active"))
    before = drainer.row(model)
    late = event_body(model, at=minutes(1), status="pending", event_id="evt_late")
    assert drainer.take(late) == {"stale": 1}
    assert drainer.row(model) == before
    assert len(drainer.changes(model)) == 1
    assert drainer.event("evt_late")["status"] == "stale"


def test_a_late_event_of_another_batch_does_not_undo_a_death(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, "model.deleted", at=minutes(5)))
    drainer.take(event_body(model, at=minutes(1), status="pending"))
    # A sign of life that is younger than the death is a question, not an answer.
    drainer.take(event_body(model, at=minutes(9), status="active"))
    assert drainer.row(model)["status"] == "deleted"
    assert [change["to_status"] for change in drainer.changes(model)] == ["deleted"]
    (request,) = rows(drainer.url, "select * from headshotpro.refetch_requests")
    assert request["model_id"] == model
    assert request["after"] >= minutes(9)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_duplicate_counts_as_a_delivery_and_changes_nothing(drainer: Drainer, batches: int) -> None:
    model = new_id()
    body = event_body(model, at=T0, event_id="evt_again", title="Ada")
    drainer.put(*[body] * 3)
    drained = [drainer.drain(3 // batches).results for _ in range(batches)]
    assert drained == ([{"applied": 1}] if batches == 1 else [{"applied": 1}, {"repeated": 1}, {"repeated": 1}])
    event = drainer.event("evt_again")
    assert (event["deliveries"], event["status"]) == (3, "applied")
    assert len(drainer.changes(model)) == 1
    drainer.assert_empty()


def test_a_duplicate_does_not_write_the_row_again(drainer: Drainer) -> None:
    model = new_id()
    body = event_body(model, at=T0)
    drainer.take(body)
    before = drainer.row(model)
    drainer.take(body)
    assert drainer.row(model) == before


def test_duplicate_id_with_other_content_counts_as_repeated(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, event_id="evt_one", status="pending"))
    assert drainer.take(event_body(model, at=minutes(1), event_id="evt_one", status="active")) == {"repeated": 1}
    assert drainer.row(model)["status"] == "pending"
    assert drainer.event("evt_one")["payload"]["object"]["status"] == "pending"


def test_repeated_event_changes_no_other_model(drainer: Drainer) -> None:
    known, named_later, new = new_id(), new_id(), new_id()
    drainer.take(event_body(known, at=T0, event_id="evt_one"))
    repeated = event_body(named_later, "model.photos_ready", at=minutes(1), event_id="evt_one")
    assert drainer.take(repeated, event_body(new, at=T0)) == {"repeated": 1, "applied": 1}
    assert model_row(drainer.url, named_later) is None
    requested = {row["model_id"] for row in rows(drainer.url, "select model_id from headshotpro.refetch_requests")}
    assert requested == {known, new}


def test_event_with_the_id_of_its_model_is_applied_once(drainer: Drainer) -> None:
    model = new_id()
    assert drainer.take(event_body(model, at=T0, event_id=model)) == {"applied": 1}
    again, next_one = event_body(model, at=T0, event_id=model), event_body(model, at=minutes(1), status="failed")
    assert drainer.take(again, next_one) == {"repeated": 1, "applied": 1}
    assert [change["to_status"] for change in drainer.changes(model)] == ["active", "failed"]


def test_an_event_that_confirms_is_applied_and_writes_no_change(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=minutes(0), status="active", title="Ada"))
    assert drainer.take(event_body(model, at=minutes(1), status="active", title="Ada")) == {"applied": 1}
    assert len(drainer.changes(model)) == 1
    # It moved the time all the same: an event between the two is now stale.
    assert drainer.take(event_body(model, at=minutes(0.5), status="pending", title="Ada")) == {"stale": 1}


def test_an_event_that_concerns_no_model_is_ignored_and_kept(drainer: Drainer) -> None:
    document = {"id": "evt_org", "event": "credits.low", "objectType": "organization", "object": {"left": 5}}
    assert drainer.take(raw(document)) == {"ignored": 1}
    event = drainer.event("evt_org")
    assert (event["model_id"], event["status"], event["payload"]) == (None, "ignored", document)
    assert rows(drainer.url, "select 1 from headshotpro.models") == []


def test_an_unknown_event_about_a_model_merges(drainer: Drainer) -> None:
    model = new_id()
    assert drainer.take(event_body(model, "model.exploded", at=T0, status="active")) == {"applied": 1}
    assert drainer.row(model)["status"] == "active"


def test_an_unknown_status_is_stored_as_it_was_sent(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="Brand New"))
    assert drainer.row(model)["status"] == "Brand New"
    assert drainer.changes(model)[0]["to_status"] == "Brand New"


@pytest.mark.parametrize("event", ["model.photos_ready", "model.favorite_selected"])
def test_event_that_only_a_get_explains_requests_a_refetch(drainer: Drainer, event: str) -> None:
    model = new_id()
    drainer.take(event_body(model, event, at=T0))
    (request,) = rows(drainer.url, "select * from headshotpro.refetch_requests")
    assert (request["model_id"], request["after"]) == (model, T0)


def test_event_without_id_gets_a_hash_of_what_was_signed(drainer: Drainer) -> None:
    model = new_id()
    document = event_document(model, at=T0)
    del document["id"]
    # The same body, signed at two times, is two events; delivered twice as it was signed, it is one.
    assert drainer.take(raw(document), raw(document), signed_at=minutes(1)) == {"applied": 1}
    assert drainer.take(raw(document), signed_at=minutes(2)) == {"applied": 1}
    found = rows(drainer.url, "select id, deliveries from headshotpro.webhook_events order by deliveries")
    assert [row["deliveries"] for row in found] == [1, 2]
    assert all(row["id"].startswith("sha256:") for row in found)


def test_event_time_beyond_tolerance_becomes_the_signing_time(drainer: Drainer) -> None:
    near, far = new_id(), new_id()
    ahead = [event_body(near, at=T0 + TOLERANCE), event_body(far, at=T0 + TOLERANCE + timedelta(seconds=1))]
    drainer.take(*ahead, signed_at=T0)
    assert drainer.row(near)["observed_at"] == T0 + TOLERANCE
    assert drainer.row(far)["observed_at"] == T0


# Events that cannot be applied, and events that only look so.


@pytest.mark.parametrize("odd", [{"organization": {"_id": "o"}}, {"finishedAt": ""}, {"status": 5}, {"deletedAt": 7}])
def test_model_deleted_with_an_unusable_field_makes_a_tombstone(drainer: Drainer, odd: dict[str, Any]) -> None:
    model, other = new_id(), new_id()
    drainer.take(event_body(model, at=T0, title="kept"))
    document = event_document(model, "model.deleted", at=minutes(1), event_id="evt_odd", **odd)
    assert drainer.take(raw(document), event_body(other, at=T0)) == {"applied": 2}
    row = drainer.row(model)
    assert (row["status"], row["title"]) == ("deleted", "kept")
    event = drainer.event("evt_odd")
    assert (event["status"], event["error"], event["payload"]) == ("applied", None, document)
    drainer.assert_empty()


def test_an_unusable_field_of_an_event_is_set_aside_once(drainer: Drainer) -> None:
    model, other = new_id(), new_id()
    query = "select model_id, fields, pull_id, resolved_at from headshotpro.set_aside order by id"
    odd = {"organization": {"_id": "secret"}, "finishedAt": ""}
    drainer.take(event_body(model, at=T0, **odd), event_body(other, at=T0))
    drainer.take(event_body(model, at=minutes(1), **odd))
    found = {"model_id": model, "fields": ["finishedAt", "organization"], "pull_id": None, "resolved_at": None}
    assert rows(drainer.url, query) == [found]
    (reason,) = rows(drainer.url, "select reason from headshotpro.set_aside")
    assert "secret" not in reason["reason"]


def test_an_event_whose_status_is_unusable_asks_for_a_get(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="pending"))
    assert drainer.take(event_body(model, at=minutes(1), status=["active"], title="new")) == {"applied": 1}
    assert (drainer.row(model)["status"], drainer.row(model)["title"]) == ("pending", "new")
    assert rows(drainer.url, "select after from headshotpro.refetch_requests where model_id = %s", model) == [
        {"after": minutes(1)}
    ]


def test_a_null_status_leaves_a_live_models_status(drainer: Drainer) -> None:
    model = new_id()
    drainer.take(event_body(model, at=T0, status="pending"))
    assert drainer.take(event_body(model, at=minutes(1), status=None, title="new")) == {"applied": 1}
    assert (drainer.row(model)["status"], drainer.row(model)["title"]) == ("pending", "new")


def test_what_is_no_webhook_at_all_is_dead_and_kept_as_text(drainer: Drainer) -> None:
    # The endpoint accepts none; a person may write into Redis by hand.
    good = new_id()
    drainer.client.xadd(STREAM, {"no": "delivery"})
    assert drainer.take(b"\xffnot \x00json", event_body(good, at=T0)) == {"dead": 2, "applied": 1}
    dead = rows(drainer.url, "select * from headshotpro.webhook_events where status = 'dead' order by payload::text")
    assert [event["payload"] for event in dead] == ["", "\ufffdnot \ufffdjson"]
    assert drainer.row(good)["status"] == "active"
    drainer.assert_empty()


# Two drains at once.


def test_concurrent_drains_neither_deadlock_nor_lose_updates(
    drainer: Drainer, database_url: str, redis_url: str
) -> None:
    models = [new_id() for _ in range(24)]
    dice = random.Random(3)
    statuses = ["onboarding", "waiting", "pending", "generatingHeadshots", "active", "failed"]
    bodies = [
        event_body(
            dice.choice(models), at=T0 + timedelta(seconds=number), status=dice.choice(statuses), title=str(number)
        )
        for number in range(600)
    ]
    newest = {json.loads(body)["object"]["_id"]: json.loads(body)["object"] for body in bodies}
    repeated = dice.sample(bodies, 100)
    sent = bodies + repeated
    dice.shuffle(sent)
    drainer.put(*sent)

    def drain() -> None:
        with opened(database_url, redis_url) as own:
            while entries := own.box.read(7, 0):
                drain_batch(own.engine, own.box, entries, TOLERANCE)

    run_concurrently(drain, drain, drain)
    drainer.assert_empty()
    for model, told in newest.items():
        row = drainer.row(model)
        assert (row["status"], row["title"]) == (told["status"], told["title"])
        # Each change begins where the one before it ended: no drain overwrote what another had just written.
        titles = [change["changed"]["title"] for change in drainer.changes(model) if "title" in change["changed"]]
        assert [old for old, _ in titles] == [None, *[new for _, new in titles[:-1]]]
        assert titles[-1][1] == row["title"]
    (count,) = rows(drainer.url, "select count(*), sum(deliveries) from headshotpro.webhook_events")
    assert (count["count"], count["sum"]) == (600, 700)


def test_concurrent_batches_of_new_models_do_not_deadlock(drainer: Drainer, database_url: str, redis_url: str) -> None:
    # Some of a batch's models are known and some are not, and each batch knows others.
    rounds = [[new_id() for _ in range(16)] for _ in range(25)]

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with opened(database_url, redis_url) as own:
            for models in rounds:
                for _ in range(3):
                    seen = [Observation(model, T0, T0, {"status": "active"}) for model in dice.sample(models, 6)]
                    with transaction(own.engine) as connection:
                        apply(connection, seen, "pull")

    run_concurrently(*[partial(write, seed) for seed in range(3)])
    assert rows(drainer.url, "select count(*) = count(distinct model_id) as once from headshotpro.model_changes") == [
        {"once": True}
    ]
