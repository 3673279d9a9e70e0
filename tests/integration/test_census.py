"""The census: what each difference that a pull finds says about the mirror, and what the view shows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from service.broker.inbox import Delivery
from service.errors import MirrorError
from service.mirror import accuracy_figures, census, webhooks
from service.mirror import drain as draining
from service.mirror.apply import BatchResult
from service.storage import accuracy, event_lags, merged, pull_checkpoints, spool
from service.storage.database import transaction
from tests.support.classifying import classify
from tests.support.system import event_body
from tests.support.time_travel import advance_time, known
from workers import jobs

if TYPE_CHECKING:
    from types import ModuleType

    from sqlalchemy import Connection

    from service.mirror.merge import Observation
    from tests.support.mirror import Mirror, StartMirror


def checks(here: Mirror) -> list[dict[str, Any]]:
    """The rows of `accuracy_checks`, once they are classified as far as possible."""
    classify(here)
    return here.sql("select * from headshotpro.accuracy_checks order by model_id")


def figures(here: Mirror, period: str = "24h", fields: str = "list") -> dict[str, Any]:
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, here.settings.accuracy_slo)
    (row,) = here.sql("select * from headshotpro.accuracy where period = %s and fields = %s", period, fields)
    return row


def test_first_pull_measures_nothing(mirror: StartMirror) -> None:
    here = mirror(models=20)
    assert here.pull()["rows_compared"] == 0
    assert checks(here) == []


def test_unchanged_pull_compares_every_row(mirror: StartMirror) -> None:
    here = mirror(models=20)
    here.pull()
    pull = here.pull()
    assert (pull["rows_compared"], pull["rows_differed"]) == (20, 0)
    row = figures(here)
    assert (row["compared"], row["wrong"], row["rate"], row["lower_95"]) == (20, 0, 0, 0)
    assert row["upper_95"] == pytest.approx(1 - 0.05 ** (1 / 20))
    assert row["slo_met"] is None


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


def test_difference_counts_once_its_webhook_is_not_in_time(mirror: StartMirror) -> None:
    here = mirror(models=0)
    known_ids = known(here)
    here.change(known_ids[0], status="failed")
    pull = here.pull()
    assert pull["rows_differed"] == 1
    checks(here)
    row = figures(here)
    assert (row["compared"], row["wrong"], row["stale_max"]) == (4, 0, None)
    advance_time(here, 6)
    checks(here)
    row = figures(here)
    assert (row["compared"], row["wrong"]) == (4, 1)
    assert row["stale_max"] > 3600


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

    def merge_nothing(connection: Connection, observations: Any, _source: str, **wanted: Any) -> BatchResult:
        result = BatchResult([False] * len(observations))
        merged.write(connection, wanted["record"](result), datetime.now(UTC))
        return result

    monkeypatch.setattr(draining, "apply", merge_nothing)
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
        assert census.classify_differences(here.runtime.engine, here.runtime.tolerance, seconds=0) is done
        assert here.sql(decided) == [{"n": count}]


def test_pulls_are_counted_by_the_next_job_after_a_crash(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=0)
    here.change(known(here)[0], status="failed")
    here.pull()
    counts = "select late_webhooks, lost_webhooks from headshotpro.pulls order by id desc limit 1"
    advance_time(here, 6)
    checks(here)
    assert here.sql(counts) == [{"late_webhooks": 1, "lost_webhooks": 0}]
    advance_time(here, 90)
    monkeypatch.setattr(accuracy, "count_for_pulls", crash)
    with pytest.raises(ZeroDivisionError):
        checks(here)
    monkeypatch.undo()
    checks(here)
    assert here.sql(counts) == [{"late_webhooks": 0, "lost_webhooks": 1}]


def crash(*_arguments: Any) -> None:
    raise ZeroDivisionError


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


def test_one_wrong_row_of_the_only_pull_is_no_verdict(mirror: StartMirror) -> None:
    here = mirror(models=0)
    ids = known(here, 10)
    for model_id, met in zip(ids, (None, False), strict=False):
        advance_time(here, 1)
        here.sql("update headshotpro.models set title = 'Mallory' where id = %s", model_id)
        here.pull()
        row = figures(here)
        assert row["rate"] > row["slo_target"]
        assert (row["lower_95"] > row["slo_target"], row["slo_met"]) == (met is False, met)


def test_figures_that_are_old_give_no_verdict(mirror: StartMirror) -> None:
    here = mirror(models=10, settings={"accuracy_slo": 0.9})
    here.pull()
    here.pull()
    assert figures(here)["slo_met"] is True
    here.sql("update headshotpro.accuracy_figures set computed_at = now() - interval '6 min'")
    (row,) = here.sql("select * from headshotpro.accuracy where period = '28d' and fields = 'list'")
    assert (row["slo_met"], row["rate"]) == (None, 0)
    assert (datetime.now(UTC) - row["computed_at"]).total_seconds() > 300


@pytest.mark.parametrize(("failing", "goes_on"), [(event_lags, "accuracy_figures"), (accuracy_figures, "event_lags")])
def test_figures_and_lags_survive_each_others_failure(
    mirror: StartMirror, monkeypatch: pytest.MonkeyPatch, failing: ModuleType, goes_on: str
) -> None:
    here = mirror(models=0)
    jobs.install(here.runtime)
    monkeypatch.setattr(failing, "compute", crash)
    with pytest.raises(MirrorError):
        jobs.compute_accuracy()
    assert here.sql(f"select count(*) > 0 as computed from headshotpro.{goes_on}") == [{"computed": True}]


def test_tombstone_that_should_live_was_wrong_since_it_was_made(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)[0]
    here.vanish(model_id)
    here.pull()
    assert here.model(model_id)["status"] == "deleted"
    advance_time(here, 30)
    here.change(model_id, vanished=False, status="active", deletedAt=None)
    here.advance_vendor_clock()
    here.pull()
    here.advance_vendor_clock()
    here.make_refetches_due()
    here.refetch()
    assert here.model(model_id)["status"] == "active"
    pull_id, old = (row["id"] for row in here.sql("select id from headshotpro.pulls order by id desc limit 2"))
    found = {check["pull_id"]: check for check in checks(here) if "status" in check["fields"]}
    assert found.keys() == {pull_id, old}
    assert 1700 < found[pull_id]["stale_seconds"] < 1900


def test_pull_that_no_process_goes_on_with_counts_its_rows(mirror: StartMirror) -> None:
    here = mirror(models=0)
    oldest, *_, newest = known(here, 450)
    for model_id in (oldest, newest):
        here.change(model_id, status="failed")
    here.read_pages(2)
    idle = pull_checkpoints.RESUMABLE_SECONDS + 1
    here.sql("update headshotpro.pull_checkpoints set leased_until = now() - make_interval(secs => %s)", idle)
    read = here.sql("select models_seen from headshotpro.pulls order by id desc limit 1")[0]["models_seen"]
    here.pull()
    advance_time(here, 6)
    checks(here)
    row = figures(here)
    assert (row["compared"], row["wrong"]) == (read + 450, 2)


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
