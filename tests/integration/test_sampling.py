"""Accuracy checks by single GETs of random rows."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.mirror import accuracy_figures, detail_sweep, sampling
from service.mirror.accuracy import NEW_FOR, Stratum, stratum_of
from service.model_fields import STATUSES
from service.storage import accuracy
from service.storage.accuracy_figures import Findings
from service.storage.database import transaction
from tests.support.classifying import classify
from tests.support.mirror import SINGLE
from tests.support.time_travel import advance_time

if TYPE_CHECKING:
    from service.upstream.client import UpstreamClient
    from tests.support.mirror import Mirror, StartMirror


def known(here: Mirror, **fields: Any) -> str:
    """A model that a pull and a single GET have read."""
    (model,) = here.create(**{"status": "active", **fields})
    here.pull()
    here.advance_vendor_clock()
    here.sql(
        "insert into headshotpro.refetch_requests (model_id, reason, due_at) values (%s, 'profile', now())", model["id"]
    )
    here.refetch()
    here.advance_vendor_clock()
    here.forget_requests()
    return str(model["id"])


def check(here: Mirror, stratum: Stratum) -> dict[str, Any]:
    assert sampling.check_one(here.runtime.engine, here.runtime.client, stratum)
    (row,) = here.sql("select * from headshotpro.accuracy_checks order by id desc limit 1")
    return row


@pytest.mark.parametrize(
    ("fields", "stratum"),
    [
        ({"status": "waiting"}, Stratum.MOVING),
        ({"finishedAt": datetime.now(UTC).isoformat(timespec="milliseconds")}, Stratum.ACTIVE_NEW),
        ({"createdAt": "2024-01-15T12:00:00.000Z", "finishedAt": "2024-01-15T13:00:00.000Z"}, Stratum.ACTIVE_OLD),
    ],
)
def test_right_row_of_each_stratum_agrees(mirror: StartMirror, fields: dict[str, Any], stratum: Stratum) -> None:
    here = mirror(models=0)
    model_id = known(here, **fields)
    row = check(here, stratum)
    assert (row["method"], row["model_id"], row["stratum"], row["agreed"]) == ("sample", model_id, stratum, True)
    assert row["with_details"]
    assert here.request_counts(SINGLE) == {200: 1}
    for other in set(Stratum) - {stratum}:
        assert not sampling.check_one(here.runtime.engine, here.runtime.client, other)


def test_strata_in_sql_are_those_of_the_rules(mirror: StartMirror) -> None:
    """Also where a status is unknown or new, and where no time is known: each row can be drawn, from one stratum."""
    here = mirror(models=0)
    now = datetime.now(UTC)
    times = (None, now - timedelta(days=8), now - timedelta(days=6))
    statuses = (None, "", "aardvark", "archived", *(status.name for status in STATUSES), "zebra")
    expected: dict[str, Stratum] = {}
    for number, (status, finished, created) in enumerate(itertools.product(statuses, times, times)):
        here.sql(
            "insert into headshotpro.models (id, status, finished_at, created_at, observed_at, updated_at) "
            "values (%s, %s, %s, %s, now(), now())",
            str(number), status, finished, created,
        )  # fmt: skip
        expected[str(number)] = stratum_of(status, finished or created, now)
    here.sql("insert into headshotpro.model_clocks (model_id) select id from headshotpro.models")
    with transaction(here.runtime.engine) as connection:
        assert accuracy.stratum_sizes(connection, now - NEW_FOR) == Counter(expected.values())
        for stratum in Stratum:
            wanted = {model_id for model_id, own in expected.items() if own == stratum}
            places = [(number + 0.5) / len(wanted) for number in range(len(wanted))]
            drawn = [accuracy.drawn_row(connection, stratum, now - NEW_FOR, place) for place in places]
            assert {row["id"] for row in drawn if row} == wanted


def test_wrong_details_are_found_and_repaired(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here, createdAt="2024-01-15T12:00:00.000Z", finishedAt="2024-01-15T13:00:00.000Z")
    here.change(model_id, photoCount=99)
    row = check(here, Stratum.ACTIVE_OLD)
    assert (row["agreed"], row["fields"], row["class"]) == (False, ["photo_count"], None)
    assert here.model(model_id)["photo_count"] == 99
    classify(here)
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, here.settings.accuracy_slo)
    (figures,) = here.sql("select * from headshotpro.accuracy where period = '1h' and fields = 'detail'")
    assert (figures["compared"], figures["wrong"], figures["bound_method"]) == (1, 1, "clopper_pearson")
    assert [one["class"] for one in here.sql("select class from headshotpro.accuracy_checks")] == ["unannounced"]


def test_tombstone_agrees_with_a_404(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)
    here.vanish(model_id)
    here.pull()
    assert here.model(model_id)["status"] == "deleted"
    row = check(here, Stratum.TOMBSTONE)
    assert (row["agreed"], row["with_details"]) == (True, False)


def test_live_row_that_a_404_denies_is_wrong(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here, status="waiting")
    here.vanish(model_id)
    row = check(here, Stratum.MOVING)
    assert (row["agreed"], row["fields"], row["repaired_at"]) == (False, ["status"], None)
    assert here.refetch_requests()[model_id]["reason"] == "missing"
    here.pull()
    classify(here)
    (row,) = here.sql("select * from headshotpro.accuracy_checks where method = 'sample'")
    assert row["repaired_at"] is not None


def test_row_that_a_404_denies_is_wrong_since_it_was_shown(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here, status="waiting")
    advance_time(here, 60)
    here.vanish(model_id)
    check(here, Stratum.MOVING)
    classify(here)
    (row,) = here.sql("select * from headshotpro.accuracy_checks")
    assert row["censored"]
    assert 3500 < row["stale_seconds"] < 3700


def test_404_that_a_later_page_refutes_is_no_error(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here, status="waiting")
    here.vanish(model_id)
    assert not check(here, Stratum.MOVING)["agreed"]
    here.change(model_id, vanished=False, status="waiting", deletedAt=None)
    here.advance_vendor_clock(60)
    here.pull()
    classify(here)
    (row,) = here.sql("select * from headshotpro.accuracy_checks")
    assert (row["agreed"], row["fields"], row["class"], row["stale_seconds"]) == (True, [], None, None)
    assert row["decided_at"] is not None


def test_row_deleted_while_a_404_comes_is_right(mirror: StartMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mirror(models=0)
    model_id = known(here, status="waiting")
    here.vanish(model_id)
    client = here.runtime.client
    whole = type(client).get_model

    def after_a_webhook(self: UpstreamClient, *arguments: Any, **options: Any) -> Any:
        here.sql("update headshotpro.models set status = 'deleted', deleted_at = now() where id = %s", model_id)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(type(client), "get_model", after_a_webhook)
    row = check(here, Stratum.MOVING)
    assert (row["agreed"], row["fields"]) == (True, [])


def test_difference_that_the_detail_sweep_repairs_is_kept(mirror: StartMirror) -> None:
    here = mirror(models=0)
    model_id = known(here)
    here.change(model_id, photoCount=99)
    here.pull()
    here.advance_vendor_clock()
    assert detail_sweep.sweep(here.runtime.engine, here.runtime.client, 5) == 1
    assert here.model(model_id)["photo_count"] == 99
    classify(here)
    (row,) = here.sql("select * from headshotpro.accuracy_checks")
    assert (row["method"], row["fields"], row["class"]) == ("sweep", ["photo_count"], "unannounced")


def test_sampled_tombstones_are_no_live_rows() -> None:
    samples = {"moving": (100, 0, 100, 0), "tombstone": (100, 50, 0, 0)}
    found = Findings([], samples, (None,) * 4, None, 0, 0, 0, None)
    row = accuracy_figures.figures(found, {"moving": 100, "tombstone": 10_000}, "list", 0.1)
    assert (row["compared"], row["wrong"], row["rate"], row["slo_met"]) == (100, 0, 0, True)


def test_checks_keep_to_their_budget(mirror: StartMirror) -> None:
    here = mirror(models=0, rate=100, settings={"rate_budget": 0.8, "accuracy_budget": 0.05})
    known(here, status="waiting")
    found = [sampling.check_one(here.runtime.engine, here.runtime.client, Stratum.MOVING) for _ in range(6)]
    assert found == [True] * 4 + [False] * 2


def test_share_of_zero_sends_no_request(mirror: StartMirror) -> None:
    here = mirror(models=0, settings={"accuracy_budget": 0.0})
    known(here, status="waiting")
    assert not sampling.check_one(here.runtime.engine, here.runtime.client, Stratum.MOVING)
    assert not any(sampling.is_due(0.8, 0.0, 1.0) for _ in range(100))
