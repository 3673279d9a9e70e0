"""Alerts over a real mirror: when each opens and ends, and what was so before the mirror looked."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from service.alerts.rules import DEVELOPMENT_SHARE, MOVING
from service.mirror.pull_slice import HOT
from service.mirror.refetch import refetch
from service.runtime import Runtime
from service.storage import alert_facts
from service.storage.database import transaction
from tests.support.alerting import AlertingHarness, alerting_harness, pulled, take
from tests.support.system import event_body, new_id
from tests.support.threads import run_concurrently

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.drainer import Drainer
    from tests.support.mirror import Mirror, StartMirror

GRACE = 600
STUCK = 14400


@pytest.fixture
def watched(drainer: Drainer) -> Iterator[AlertingHarness]:
    """The watch over a mirror that webhooks alone fill, of which the past was summed up long ago."""
    with alerting_harness(drainer.url) as opened:
        pulled(opened, 300)
        yield opened


@contextmanager
def with_key(here: Mirror, key: str) -> Iterator[Runtime]:
    """Another process of the deployment, with another API key."""
    runtime = Runtime.build(structs.replace(here.settings, headshotpro_api_key=key))
    try:
        yield runtime
    finally:
        runtime.engine.dispose()
        runtime.redis.close()


def test_models_that_moved_a_moment_ago_are_no_facts(watched: AlertingHarness, drainer: Drainer) -> None:
    stuck, development = new_id(), new_id()
    take(drainer, stuck, "pending")
    watched.advance_time(STUCK * (1 - DEVELOPMENT_SHARE))
    take(drainer, development, "pending", isDevelopment=True)
    # As long as the development model, which may not take that long.
    take(drainer, new_id(), "pending")
    watched.advance_time(STUCK * DEVELOPMENT_SHARE)
    take(drainer, new_id(), "pending")
    take(drainer, new_id(), "pending", isDevelopment=True)
    with transaction(watched.engine) as connection:
        found = alert_facts.models(connection, MOVING, STUCK, DEVELOPMENT_SHARE, 3)
    assert {row["model_id"] for row in found} == {stuck, development}


# --- model_failed


def test_failed_model_alerts_after_grace_until_it_is_active(watched: AlertingHarness, drainer: Drainer) -> None:
    model_id = new_id()
    take(drainer, model_id, "pending", "failed")
    watched.look()
    watched.advance_time(GRACE - 10)
    watched.look()
    assert watched.alerts() == []
    watched.advance_time(10)
    pulled(watched)
    watched.look()
    watched.look()
    (alert,) = watched.alerts(only_open=False)
    assert (alert["kind"], alert["model_id"], alert["resolved_at"]) == ("model_failed", model_id, None)
    # It is tried once more: that is no end yet.
    take(drainer, model_id, "pending", "generatingHeadshots")
    watched.look()
    assert watched.open_kinds() == ["model_failed"]
    take(drainer, model_id, "active")
    watched.look()
    (alert,) = watched.alerts(only_open=False)
    assert alert["resolved_at"] is not None


@pytest.mark.parametrize("end", ["active", "deleted"])
def test_the_third_failure_of_a_day_alerts_at_once(watched: AlertingHarness, drainer: Drainer, end: str) -> None:
    model_id = new_id()
    take(drainer, model_id, "failed", "pending", "failed", "pending")
    watched.look()
    assert watched.alerts() == []
    take(drainer, model_id, "failed", "pending")
    watched.look()
    assert [(row["kind"], row["detail"]["failures"]) for row in watched.alerts()] == [("model_failed", 3)]
    take(drainer, model_id, end)
    watched.look()
    assert watched.alerts() == []
    if end == "active":
        # Today's failures are over until a new one comes.
        take(drainer, model_id, "pending")
        watched.look()
        assert watched.alerts() == []
        take(drainer, model_id, "failed")
        watched.look()
        assert watched.open_kinds() == ["model_failed"]


def test_failures_of_yesterday_do_not_count(watched: AlertingHarness, drainer: Drainer) -> None:
    model_id = new_id()
    take(drainer, model_id, "failed", "pending", "failed", "pending")
    watched.advance_time(86_400)
    pulled(watched)
    take(drainer, model_id, "failed")
    watched.look()
    assert watched.alerts() == []


def test_failure_seen_late_alerts_by_upstream_time(watched: AlertingHarness, drainer: Drainer) -> None:
    ago = datetime.now(UTC) - timedelta(seconds=GRACE + 5)
    watched.look()
    watched.advance_time(2 * GRACE)
    take(drainer, new_id(), "failed", at=ago)
    watched.look()
    assert watched.open_kinds() == ["model_failed"]


# --- model_stuck


@pytest.mark.parametrize(
    ("status", "development", "allowed"),
    [("waiting", False, STUCK), ("pending", True, STUCK / 16), ("generatingHeadshots", False, STUCK)],
)
def test_a_model_that_does_not_move_alerts(
    watched: AlertingHarness, drainer: Drainer, status: str, development: bool, allowed: float
) -> None:
    model_id = new_id()
    born = datetime.now(UTC).isoformat()
    take(drainer, model_id, "onboarding", status, isDevelopment=development, createdAt=born)
    watched.advance_time(allowed - 10)
    pulled(watched)
    watched.look()
    assert watched.alerts() == []
    watched.advance_time(10)
    watched.look()
    assert [(row["kind"], row["model_id"]) for row in watched.alerts()] == [("model_stuck", model_id)]
    take(drainer, model_id, "active")
    watched.look()
    assert watched.alerts() == []


def test_onboarding_is_a_persons_own_time(watched: AlertingHarness, drainer: Drainer) -> None:
    take(drainer, new_id(), "onboarding")
    watched.advance_time(100 * STUCK)
    pulled(watched)
    watched.look()
    assert watched.alerts() == []


# --- the mirror


def test_mirror_alerts_after_three_intervals_without_full_pull(watched: AlertingHarness) -> None:
    watched.advance_time(3 * 900 - 310)
    pulled(watched, kind=HOT)
    pulled(watched, status="failed")
    watched.look()
    assert watched.alerts() == []
    watched.advance_time(20)
    watched.look()
    assert watched.open_kinds() == ["pull_stale"]
    pulled(watched)
    watched.look()
    assert watched.alerts() == []


def test_a_mirror_that_never_had_a_complete_pull_alerts_too(database_url: str) -> None:
    with alerting_harness(database_url) as here:
        here.look()
        here.advance_time(3 * 900 - 70)
        here.look()
        assert here.alerts() == []
        here.advance_time(20)
        here.look()
        assert here.open_kinds() == ["pull_stale"]


def test_repeated_missing_webhooks_alert_until_an_event_arrives(watched: AlertingHarness, drainer: Drainer) -> None:
    pulled(watched, 200, HOT, missed=4)
    watched.look()
    assert watched.alerts() == []
    pulled(watched, 100, HOT, missed=1)
    watched.look()
    assert watched.open_kinds() == ["webhooks_missing"]
    # A quiet night is no proof that they come again; a webhook is.
    watched.advance_time(7200)
    pulled(watched)
    watched.look()
    assert watched.open_kinds() == ["webhooks_missing"]
    take(drainer, new_id(), "pending")
    watched.look()
    assert watched.alerts() == []


def test_a_few_lost_webhooks_among_many_are_no_alert(watched: AlertingHarness, drainer: Drainer) -> None:
    for _ in range(3):
        pulled(watched, 100, HOT, missed=1)
    take(drainer, new_id(), "onboarding", "waiting", "pending")
    watched.look()
    assert watched.alerts() == []


def test_dead_events_and_held_pulls_alert_until_somebody_decided(watched: AlertingHarness, drainer: Drainer) -> None:
    # No index takes an id of this length.
    assert drainer.take(event_body("i" * 300)) == {"dead": 1}
    pulled(watched, status="held")
    pulled(watched, status="held")
    watched.sql("update headshotpro.pulls set pages = 3 where id = (select max(id) from headshotpro.pulls)")
    watched.look()
    # A pull that read no page is held because the key belongs to another organization.
    assert sorted(watched.open_kinds()) == ["events_dead", "organization_changed", "tombstones_held"]
    watched.sql("update headshotpro.webhook_events set status = 'applied'")
    watched.sql("update headshotpro.pulls set status = 'failed' where status = 'held'")
    watched.look()
    assert watched.alerts() == []


def test_a_key_that_the_vendor_refuses_alerts_until_it_is_taken(mirror: StartMirror) -> None:
    here = mirror(models=3)
    with alerting_harness(here.settings.postgres_url) as watch:
        with with_key(here, "revoked") as revoked:
            here.slice(runtime=revoked)
        watch.look()
        assert [(row["kind"], row["detail"]) for row in watch.alerts()] == [("api_rejected", {"status": 401})]
        here.pull()
        watch.look()
        assert watch.alerts() == []
        # Single GETs are refused as well.
        here.sql("insert into headshotpro.refetch_requests (model_id, reason, due_at) values ('m', 'profile', now())")
        with with_key(here, "revoked") as revoked:
            refetch(revoked.engine, revoked.client, 5)
        watch.look()
        assert watch.open_kinds() == ["api_rejected"]


# --- history, and several at once


def test_inaccurate_mirror_alerts_until_the_last_hour_is_right(watched: AlertingHarness) -> None:
    pulled(watched)
    watched.sql(
        "insert into headshotpro.accuracy_figures (period, fields, compared, wrong, lower_95, slo_target, computed_at, "
        "late_webhooks, lost_webhooks, unexplained) select period, 'list', 9000, 90, 0.009, 0.0001, now(), 0, 0, 0 "
        "from unnest(array['1h', '24h']) as period"
    )
    watched.look()
    assert watched.open_kinds() == ["mirror_inaccurate"]
    watched.sql("update headshotpro.accuracy_figures set lower_95 = 0 where period = '1h'")
    watched.look()
    assert watched.open_kinds() == []
    watched.sql("update headshotpro.accuracy_figures set unexplained = 1 where period = '24h'")
    watched.look()
    assert watched.open_kinds() == ["mirror_inaccurate"]


def test_old_figures_open_no_alert_and_close_none(watched: AlertingHarness) -> None:
    pulled(watched)
    watched.sql(
        "insert into headshotpro.accuracy_figures (period, fields, compared, wrong, lower_95, slo_target, computed_at, "
        "late_webhooks, lost_webhooks, unexplained) values "
        "('24h', 'list', 9000, 1, 0, 0.0001, now() - interval '301 s', 0, 0, 1)"
    )
    watched.look()
    assert watched.open_kinds() == []
    watched.sql("update headshotpro.accuracy_figures set computed_at = now()")
    watched.look()
    assert watched.open_kinds() == ["mirror_inaccurate"]
    watched.sql("update headshotpro.accuracy_figures set unexplained = 0, computed_at = now() - interval '301 s'")
    watched.look()
    assert watched.open_kinds() == ["mirror_inaccurate"]
    watched.sql("update headshotpro.accuracy_figures set computed_at = now()")
    watched.look()
    assert watched.open_kinds() == []


def test_deleted_history_opens_no_alert_and_closes_none(watched: AlertingHarness, drainer: Drainer) -> None:
    told, untold = new_id(), new_id()
    take(drainer, told, "failed")
    watched.advance_time(GRACE)
    watched.look()
    take(drainer, untold, "failed")
    watched.sql("delete from headshotpro.model_changes")
    watched.advance_time(GRACE)
    watched.look()
    assert [row["model_id"] for row in watched.alerts()] == [told]


def test_hundreds_of_causes_open_one_alert_each_whoever_looks(watched: AlertingHarness, drainer: Drainer) -> None:
    drainer.take(*[event_body(new_id(), status="failed") for _ in range(500)])
    watched.advance_time(GRACE)
    with alerting_harness(drainer.url) as another:
        run_concurrently(watched.look, another.look)
    assert watched.sql("select count(*), count(distinct model_id) as models from headshotpro.alerts") == [
        {"count": 500, "models": 500}
    ]
    assert watched.sql("select count(*) from headshotpro.notifications") == [{"count": 500}]


def test_held_up_evaluation_delays_the_next_by_30_s(watched: AlertingHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0

    def hang() -> None:
        nonlocal now
        now += 120

    monkeypatch.setattr("service.alerts.evaluator.monotonic", lambda: now)
    monkeypatch.setattr(watched.watch, "_read_inbox", hang)
    watched.look()
    assert watched.watch._next_evaluation == now + 30
