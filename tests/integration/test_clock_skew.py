"""A `Date` that is far off is not believed: the mirror stays right, an alert opens, and closes by itself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from service.alerts import api_key_status
from service.runtime import Runtime
from tests.support.alerting import alerting_harness
from tests.support.cli import Cli
from tests.support.wrong_clock import WrongClock, wrong_clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror

HOUR = 3600.0


@contextmanager
def behind(here: Mirror, relay: WrongClock) -> Iterator[Runtime]:
    """Another process of the deployment, whose upstream is the relay."""
    runtime = Runtime.build(structs.replace(here.settings, headshotpro_api_url=relay.url))
    try:
        yield runtime
    finally:
        runtime.engine.dispose()
        runtime.redis.close()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 400 * 24 * HOUR, None], ids=["ahead", "behind", "a year", "none"])
def test_webhooks_and_pulls_stay_right_whatever_the_date(mirror: StartMirror, ahead: float | None) -> None:
    here = mirror(models=6)
    here.enable_webhooks()
    with wrong_clock(here.settings.headshotpro_api_url, ahead) as relay, behind(here, relay) as runtime:
        here.slice(runtime=runtime)
        assert here.differences() == []
        told, untold, gone, refetched = sorted(here.live_ids())[:4]
        here.change(told, status="failed", events=True)
        here.apply_webhooks()
        assert here.model(told)["status"] == "failed"
        assert [row["status"] for row in here.sql("select status from headshotpro.webhook_events")] == ["applied"]
        here.change(untold, title="Unannounced title")
        here.change(refetched, photoCount=7)
        here.vanish(gone)
        here.slice(runtime=runtime)
        assert here.differences() == []
        assert here.model(gone)["status"] == "deleted"
        (last,) = here.sql("select status from headshotpro.pulls order by id desc limit 1")
        assert last["status"] == "complete"


def test_the_alert_opens_and_ends_with_the_skew(mirrored: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_key_status, "SKEW_CLEAR_SECONDS", 0.0)
    with (
        alerting_harness(mirrored.settings.database_url) as watch,
        wrong_clock(mirrored.settings.headshotpro_api_url, HOUR) as relay,
        behind(mirrored, relay) as runtime,
    ):
        mirrored.slice(runtime=runtime)
        watch.look()
        (alert,) = watch.alerts()
        assert alert["kind"] == "clock_skew"
        assert alert["detail"]["seconds"] == pytest.approx(HOUR, abs=5)
        # Another process whose responses have no `Date`, or one within the bound.
        relay.ahead = None
        mirrored.slice(runtime=runtime)
        watch.look()
        assert watch.open_kinds() == ["clock_skew"]
        relay.ahead = 40.0
        mirrored.slice(runtime=runtime)
        watch.look()
        assert watch.open_kinds() == []


def test_one_right_response_between_wrong_ones_ends_nothing(mirrored: Mirror) -> None:
    with (
        alerting_harness(mirrored.settings.database_url) as watch,
        wrong_clock(mirrored.settings.headshotpro_api_url, -HOUR) as relay,
        behind(mirrored, relay) as runtime,
    ):
        mirrored.slice(runtime=runtime)
        relay.ahead = 0.0
        mirrored.slice(runtime=runtime)
        watch.look()
        assert watch.open_kinds() == ["clock_skew"]


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_doctor_names_a_clock_that_is_not_believed(mirrored: Mirror, folder: Path, ahead: float) -> None:
    with wrong_clock(mirrored.settings.headshotpro_api_url, ahead) as relay:
        done = Cli(folder, **{**mirrored.variables, "HEADSHOTPRO_API_URL": relay.url}).run("doctor", "--json")
    (found,) = [row for row in done.document if row["check"] == "upstream clock"]
    assert done.status == 1
    assert not found["ok"]
    assert float(found["seen"].split()[0]) == pytest.approx(ahead, abs=10)
    assert "this machine's clock" in found["advice"]
