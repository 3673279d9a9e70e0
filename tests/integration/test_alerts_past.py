"""The state before the first pull opens no alert: one notification sums it up, also after failed first pulls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.support.alerting import alerting_harness, pulled, take

if TYPE_CHECKING:
    from tests.support.drainer import Drainer
    from tests.support.mirror import StartMirror

GRACE = 600
STUCK = 14400
LONG_AGO = "2025-01-02T03:04:05.000Z"


def test_problems_older_than_the_mirror_give_one_notification(mirror: StartMirror) -> None:
    here = mirror(models=0)
    failed = here.create(7, status="failed", createdAt=LONG_AGO)
    here.create(2, status="pending", createdAt=LONG_AGO)
    here.create(1, status="waiting")
    with alerting_harness(here.settings.postgres_url) as watch:
        watch.look()
        here.pull()
        watch.look()
        watch.restart()
        watch.look()
        (notice,) = watch.sql("select reason, detail from headshotpro.notifications")
        assert notice["reason"] == "first_summary"
        assert (notice["detail"]["failed"], notice["detail"]["stuck"]) == (7, 2)
        assert set(notice["detail"]["failed_ids"]) < {model["id"] for model in failed}
        watch.advance_time(STUCK + 100)
        pulled(watch)
        watch.look()
        # The one that was made just now has been in its status for too long: that is news.
        assert watch.open_kinds() == ["model_stuck"]
        assert len(watch.sql("select id from headshotpro.notifications where reason = 'first_summary'")) == 1


def test_a_model_of_the_past_that_fails_anew_alerts(mirror: StartMirror) -> None:
    here = mirror(models=0)
    (model,) = here.create(1, status="failed", createdAt=LONG_AGO)
    with alerting_harness(here.settings.postgres_url) as watch:
        here.pull()
        watch.look()
        # Twice today; what the first look found may have been long ago.
        for status in ("pending", "failed", "pending", "failed"):
            here.advance_vendor_clock()
            here.change(model["id"], status=status)
            here.pull()
        watch.look()
        assert watch.alerts() == []
        watch.advance_time(GRACE)
        watch.look()
        assert [(row["kind"], row["model_id"]) for row in watch.alerts()] == [("model_failed", model["id"])]


def test_interrupted_first_pull_still_reports_all_old_failures(mirror: StartMirror) -> None:
    here = mirror(models=0)
    here.create(450, status="failed", createdAt=LONG_AGO)
    with alerting_harness(here.settings.postgres_url) as watch:
        watch.look()
        here.read_pages(2)
        here.sql("delete from headshotpro.pull_checkpoints")
        here.sql("update headshotpro.pulls set status = 'failed', finished_at = now()")
        watch.advance_time(GRACE)
        watch.look()
        # A model created since then is not past, although no pull has been complete yet.
        (late,) = here.create(1, status="failed")
        here.read_pages(2)
        watch.advance_time(GRACE)
        watch.look()
        assert [(row["kind"], row["model_id"]) for row in watch.alerts()] == [("model_failed", late["id"])]
        assert watch.sql("select id from headshotpro.notifications where reason = 'first_summary'") == []
        here.advance_vendor_clock(3600)
        assert here.pull()["status"] == "complete"
        watch.look()
        (notice,) = watch.sql("select detail from headshotpro.notifications where reason = 'first_summary'")
        assert notice["detail"]["failed"] == 450
        assert len(watch.alerts()) == 1


def test_webhook_during_the_first_pull_opens_an_alert(mirror: StartMirror, drainer: Drainer) -> None:
    here = mirror(models=0)
    old, news, delayed = (model["id"] for model in here.create(3, status="failed", createdAt=LONG_AGO))
    with alerting_harness(here.settings.postgres_url) as watch:
        # An event from before the first pull is past, too: the vendor tries for more than an hour.
        take(drainer, delayed, "failed", at=datetime.now(UTC) - timedelta(hours=1))
        take(drainer, news, "failed")
        watch.look()
        here.read_pages(1)
        watch.advance_time(GRACE)
        watch.look()
        assert [(row["kind"], row["model_id"]) for row in watch.alerts()] == [("model_failed", news)]
        here.pull()
        watch.look()
        (notice,) = watch.sql("select detail from headshotpro.notifications where reason = 'first_summary'")
        assert set(notice["detail"]["failed_ids"]) <= {old, delayed}
        assert len(watch.alerts()) == 1
