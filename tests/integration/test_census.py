"""The census: what each difference that a pull finds says about the mirror, and what the view shows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.broker.inbox import Delivery
from service.mirror import census, webhooks
from service.mirror import drain as draining
from service.mirror.merging_batch import BatchResult
from service.storage import merged, spool
from service.storage.database import transaction
from tests.support.classifying import checks, figures
from tests.support.system import event_body
from tests.support.time_travel import advance_time, known

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.mirror.merge import Observation
    from tests.support.mirror import StartMirror


@pytest.mark.parametrize(
    "statement",
    [
        "update headshotpro.models set title = 'Mallory' where id = %s",
        "update headshotpro.models set status = 'failed' where id = %s",
        "update headshotpro.models set email = null where id = %s",
        "delete from headshotpro.models where id = %s",
    ],
)
def test_row_changed_behind_the_mirrors_back_is_found(mirror: StartMirror, statement: str) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.sql(statement, model_id)
    pull = here.pull()
    assert here.differences() == []
    assert (pull["rows_compared"], pull["rows_differed"]) == (4, 1)
    (check,) = checks(here)
    assert (check["model_id"], check["class"], check["agreed"]) == (model_id, "foreign_write", False)
    assert here.pull()["rows_differed"] == 0
    assert figures(here)["wrong"] == 1


def test_truncation_of_the_mirror_is_a_foreign_write(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.change(known(here)[0], status="failed", events=True)
    here.apply_webhooks()
    here.sql("update headshotpro.webhook_events set processed_at = processed_at - interval '1 minute'")
    here.sql("truncate headshotpro.models")
    assert here.pull()["rows_differed"] == 4
    assert here.differences() == []
    assert {check["class"] for check in checks(here)} == {"foreign_write"}


def test_foreign_write_that_is_repaired_is_forgotten(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.sql("update headshotpro.models set photo_count = 7 where id = %s", model_id)
    here.pull()
    here.advance_vendor_clock()
    here.change(model_id, status="failed")
    here.pull()
    advance_time(here, 91)
    assert [check["class"] for check in checks(here)] == ["lost"]


def test_webhook_between_settles_no_foreign_write(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.change(model_id, title="Right", status="failed", events=True)
    here.apply_webhooks()
    here.sql("update headshotpro.models set title = 'Mallory' where id = %s", model_id)
    here.vendor.control("POST", "/events", {"event": "model.status.updated", "modelId": model_id})
    with_flag = "select count(*) = 1 as kept from headshotpro.foreign_writes where model_id = %s"
    assert here.sql(with_flag, model_id)[0]["kept"]
    # A delivery that is older than the row compares nothing.
    here.vendor.control(
        "POST",
        "/events",
        {"event": "model.status.updated", "modelId": model_id, "createdAt": "2024-01-15T12:00:00.000Z"},
    )
    here.apply_webhooks()
    assert here.sql(with_flag, model_id)[0]["kept"]


def test_lost_late_and_unannounced_changes_are_told_apart(mirror: StartMirror) -> None:
    here = mirror(models=0)
    lost, late, moved, same = known(here)
    here.change(lost, status="failed")
    here.change(late, status="failed")
    here.change(moved, email="new@example.test")
    here.vanish(same)
    here.pull()
    advance_time(here, 6)
    here.vendor.control("POST", "/events", {"event": "model.status.updated", "modelId": late, "createdAt": None})
    here.apply_webhooks()
    found = {check["model_id"]: check for check in checks(here)}
    assert {one: found[one]["class"] for one in found} == {
        lost: "late", late: "late", moved: "unannounced", same: "late",
    }  # fmt: skip
    assert found[moved]["fields"] == ["email"]
    advance_time(here, 90)
    assert [check["class"] for check in checks(here) if check["model_id"] in {lost, same}] == ["lost", "lost"]


def test_address_of_a_new_model_was_missing_since_its_creation(mirror: StartMirror) -> None:
    here = mirror(models=0)
    known(here)
    # Its webhook has no address, and a pull is quicker than the GET that has it.
    (model,) = here.create(events=True)
    here.apply_webhooks()
    here.pull()
    (check,) = checks(here)
    assert (check["model_id"], check["class"]) == (model["id"], "unannounced")
    assert "email" in check["fields"]
    assert (check["censored"], 0 <= check["stale_seconds"] < 8) == (True, True)
    assert figures(here)["wrong"] == 0


@pytest.mark.parametrize("behind", ["2 minutes", "4 minutes"])
def test_clock_behind_the_vendors_loses_no_webhook(mirror: StartMirror, behind: str) -> None:
    here = mirror(models=0)
    here.change(known(here)[0], status="failed", events=True)
    here.pull()
    here.apply_webhooks()
    # As if our clock were behind, and the event the next one after one that the row was known by.
    here.sql(
        "update headshotpro.webhook_events "
        "set created_at = created_at + %s::interval, signed_at = received_at + %s::interval",
        behind,
        behind,
    )
    here.sql(
        "update headshotpro.accuracy_checks set last_agreed_at = e.created_at - interval '1 second' "
        "from headshotpro.webhook_events as e"
    )
    advance_time(here, 91)
    assert [check["class"] for check in checks(here)] == ["in_flight"]


def test_webhook_that_a_drain_applied_late_was_in_flight(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    happened = datetime.now(UTC)
    here.change(model_id, status="failed")
    here.pull()
    advance_time(here, 30)
    assert [check["class"] for check in checks(here)] == ["late"]
    order = {"event": "model.status.updated", "modelId": model_id, "createdAt": happened.isoformat()}
    here.vendor.control("POST", "/events", order)
    here.apply_webhooks()
    # It was received in time, and waited for a drain; its own time is as old as the difference.
    here.sql(
        "update headshotpro.webhook_events set received_at = received_at - interval '28 min', "
        "created_at = created_at - interval '30 min' where model_id = %s",
        model_id,
    )
    assert [check["class"] for check in checks(here)] == ["in_flight"]


def test_field_that_the_drain_drops_is_unexplained(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    whole = webhooks.from_webhook

    def without_status(*arguments: Any) -> Observation:
        seen = whole(*arguments)
        return replace(seen, fields={name: value for name, value in seen.fields.items() if name != "status"})

    monkeypatch.setattr(webhooks, "from_webhook", without_status)
    here.change(model_id, status="failed", events=True)
    here.apply_webhooks()
    assert here.model(model_id)["status"] == "active"
    monkeypatch.undo()
    here.advance_vendor_clock()
    here.pull()
    (check,) = checks(here)
    assert (check["class"], check["model_id"]) == ("unexplained", model_id)
    assert check["event_id"] is not None
    assert figures(here)["unexplained"] == 1


def test_event_that_the_drain_drops_is_unexplained(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]

    def merge_nothing(connection: Connection, parts: Any, _source: str, **_wanted: Any) -> list[BatchResult]:
        (part,) = parts
        result = BatchResult([False] * len(part.observations))
        merged.write(connection, part.record(result), datetime.now(UTC))
        return [result]

    monkeypatch.setattr(draining, "apply_parts", merge_nothing)
    here.change(model_id, status="failed", events=True)
    here.apply_webhooks()
    monkeypatch.undo()
    assert here.sql("select status from headshotpro.webhook_events") == [{"status": "stale"}]
    advance_time(here, 1)
    here.advance_vendor_clock()
    here.pull()
    (check,) = checks(here)
    assert (check["class"], check["model_id"]) == ("unexplained", model_id)
    assert figures(here)["unexplained"] == 1


@pytest.mark.parametrize("kept", ["inbox", "spool"])
def test_difference_is_not_lost_while_deliveries_wait(mirror: StartMirror, kept: str) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.change(model_id, status="failed")
    here.pull()
    advance_time(here, 91)
    # It came a minute later, and since then no drain could work.
    now = datetime.now(UTC)
    received = now - timedelta(minutes=90)
    body = event_body(model_id, status="failed", at=now - timedelta(minutes=91, seconds=10))
    delivery = Delivery.arrived(body, int(received.timestamp()), received)
    if kept == "inbox":
        here.runtime.inbox.put(delivery)
    else:
        with transaction(here.runtime.engine) as connection:
            spool.put(connection, delivery)
    assert [check["class"] for check in checks(here)] == [None]
    # The row was wrong all the same.
    assert figures(here)["wrong"] == 1
    here.apply_webhooks()
    draining.drain_spool(here.runtime.engine, here.runtime.tolerance)
    assert [check["class"] for check in checks(here)] == ["in_flight"]


def test_delivery_that_waits_for_days_delays_classes_by_one(mirror: StartMirror) -> None:
    here = mirror(models=0)
    now = datetime.now(UTC)
    here.runtime.inbox.put(Delivery.arrived(b"{}", 0, now - timedelta(days=3)))
    assert census.deliveries_known_to(here.runtime.engine, here.runtime.inbox, now) == now - timedelta(days=1)


def test_differences_are_classified_in_batches(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=0)
    for model_id in known(here, 5):
        here.change(model_id, email=f"{model_id}@example.test")
    here.pull()
    monkeypatch.setattr(census, "BATCH_SIZE", 2)
    decided = "select count(*)::int as n from headshotpro.accuracy_checks where class = 'unannounced'"
    for done, count in ((False, 2), (False, 4), (False, 5), (True, 5)):
        assert census.classify_differences(here.runtime.engine, here.runtime.tolerance, datetime.now(UTC), 0) is done
        assert here.sql(decided) == [{"n": count}]


def test_many_later_events_hide_no_webhook(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.change(model_id, status="failed")
    here.pull()
    now = datetime.now(UTC)
    for place in range(25):
        at = (now + timedelta(seconds=20 + place if place else 0)).isoformat(timespec="milliseconds")
        here.vendor.control("POST", "/events", {"event": "model.status.updated", "modelId": model_id, "createdAt": at})
        here.change(model_id, status=("pending", "waiting")[place % 2])
    here.apply_webhooks()
    assert [check["class"] for check in checks(here)] == ["in_flight"]


def test_applied_webhooks_leave_no_difference(mirror: StartMirror) -> None:
    here = mirror(models=0)
    changed, *_ = known(here)
    here.change(changed, status="failed", events=True)
    here.vendor.control("POST", "/models", {"n": 1, "events": True})
    here.apply_webhooks()
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()
    here.pull()
    assert checks(here) == []


def test_older_code_that_writes_rows_only_costs_a_comparison(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.sql("update headshotpro.models set updated_at = now() where id = %s", model_id)
    assert here.pull()["rows_differed"] == 0
    assert checks(here) == []
