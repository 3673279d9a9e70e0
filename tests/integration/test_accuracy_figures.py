"""The figures of the census: what a pull compares, what counts as wrong, and when they give a verdict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import MirrorError
from service.mirror import accuracy_figures
from service.storage import accuracy, event_lags, pull_checkpoints
from tests.support.classifying import checks, figures
from tests.support.time_travel import advance_time, known
from workers import jobs

if TYPE_CHECKING:
    from types import ModuleType

    from tests.support.mirror import StartMirror


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
