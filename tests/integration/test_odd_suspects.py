"""Suspects whose GET fails, and models that never were: the others are decided, and the pull completes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.errors import LockUnavailable
from service.mirror import held_pulls
from service.mirror import pull as pulling
from service.mirror import pull_slice as slice_
from service.storage.database import transaction
from service.upstream import retry
from tests.support.acting import TESTER
from tests.support.alerting import alerting_harness
from tests.support.cli import Cli
from tests.support.list_vendor import model, models
from tests.support.system import event_body

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import StartOdd
    from tests.support.drainer import Drainer
    from tests.support.list_vendor import ListVendor
    from tests.support.mirror import Mirror

NEVER_BORN = "f" * 24


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between the tries of a GET, hardly any between rounds."""
    monkeypatch.setattr(retry, "_FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(pulling, "ROUND_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(slice_, "FAILURE_PAUSE_SECONDS", 0.01)


def age(here: Mirror) -> None:
    """All models were last shown a minute ago."""
    here.sql("update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute'")


def vanished(odd: StartOdd, number: int, count: int = 20) -> tuple[ListVendor, Mirror, list[str]]:
    """A mirror of models of which the last few have vanished."""
    vendor, here = odd(models(count))
    assert here.pull()["status"] == "complete"
    gone = [vendor.records.pop()["id"] for _ in range(number)]
    age(here)
    return vendor, here, sorted(gone)


BROKEN: list[tuple[int, Any]] = [
    (500, {"success": False, "error": "Oops", "code": "INTERNAL"}),
    (404, "<h1>Not found</h1>"),
    (404, {"success": False, "error": "no such route"}),
    (200, "<html>"),
    (200, {"success": True, "model": model(1)}),
    (200, {"success": True, "model": None}),
    (200, {"success": False, "error": "Oops"}),
    (400, {"success": False, "error": "no", "code": "INVALID_REQUEST"}),
    (410, {}),
    (403, {"success": False, "error": "no", "code": "FORBIDDEN"}),
    (403, "<h1>Forbidden</h1>"),
    (200, {"success": False, "error": "no", "code": "FORBIDDEN"}),
    (200, []),
    (200, {"success": True, "data": {"model": model(1)}}),
]


@pytest.mark.parametrize(("status", "document"), BROKEN)
def test_suspect_whose_get_fails_is_postponed_and_others_decided(odd: StartOdd, status: int, document: Any) -> None:
    vendor, here, gone = vanished(odd, 3)
    broken, *decided = gone
    vendor.singles[broken] = (status, document)
    row = here.pull()
    assert (row["status"], row["error"], row["tombstoned"], row["postponed"]) == ("complete", None, 2, [broken])
    assert [here.model(one)["status"] for one in gone] == ["active", "deleted", "deleted"]
    assert all(vendor.gets(one) == 1 for one in decided)
    # The next pull decides about it.
    del vendor.singles[broken]
    age(here)
    row = here.pull()
    assert (row["status"], row["tombstoned"], row["postponed"]) == ("complete", 1, [])


def test_only_suspect_that_always_fails_does_not_fail_the_pull(odd: StartOdd) -> None:
    vendor, here, (gone,) = vanished(odd, 1)
    vendor.singles[gone] = (500, {})
    row = here.pull()
    assert (row["status"], row["postponed"], vendor.gets(gone)) == ("complete", [gone], 12)


def test_upstream_whose_every_get_fails_fails_the_pull(odd: StartOdd) -> None:
    vendor, here, gone = vanished(odd, 40, count=400)
    vendor.singles.update(dict.fromkeys(gone, (404, "<h1>Not found</h1>")))
    row = here.pull()
    assert row["status"] == "failed"
    assert row["error"].startswith("suspects could not be decided: ")
    assert sum(vendor.gets(one) for one in gone) == 25
    assert here.sql("select id from headshotpro.models where status = 'deleted'") == []


def test_key_that_is_refused_for_a_suspect_fails_the_pull(odd: StartOdd) -> None:
    vendor, here, (gone,) = vanished(odd, 1)
    vendor.singles[gone] = (401, {"success": False, "error": "no", "code": "UNAUTHORIZED"})
    assert here.pull()["error"] == "the upstream refused: 401 UNAUTHORIZED"


def test_get_forbidden_for_one_model_says_nothing_of_the_key(odd: StartOdd) -> None:
    vendor, here, (gone,) = vanished(odd, 1)
    vendor.singles[gone] = (403, {"success": False, "error": "no", "code": "FORBIDDEN"})
    assert here.pull()["postponed"] == [gone]
    assert here.sql("select 1 from headshotpro.alert_evaluator where key_refused_at is not null") == []


def test_suspect_of_a_slice_without_time_is_not_passed_over(odd: StartOdd) -> None:
    vendor, here, gone = vanished(odd, 3)
    while here.sql("select 1 from headshotpro.pulls where status <> 'complete'") or vendor.gets(gone[-1]) == 0:
        here.slice(seconds=0.01)
    assert [here.model(one)["status"] for one in gone] == ["deleted"] * 3


def test_released_pull_decides_the_others(odd: StartOdd) -> None:
    vendor, here, gone = vanished(odd, 15)
    row = here.pull()
    assert row["status"] == "held"
    vendor.singles[gone[0]] = (500, {})
    runtime = here.runtime
    assert held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, row["id"], TESTER) == 14
    (row,) = here.sql("select status, postponed from headshotpro.pulls where id = %s", row["id"])
    assert row == {"status": "complete", "postponed": [gone[0]]}


def test_released_pull_postpones_a_suspect_whose_row_is_refused(odd: StartOdd) -> None:
    _, here, gone = vanished(odd, 15)
    row = here.pull()
    here.sql(f"alter table headshotpro.models add check (id <> '{gone[0]}' or status <> 'deleted') not valid")
    runtime = here.runtime
    assert held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, row["id"], TESTER) == 14
    (row,) = here.sql("select status, postponed from headshotpro.pulls where id = %s", row["id"])
    assert row == {"status": "complete", "postponed": [gone[0]]}
    assert here.sql("select model_id from headshotpro.set_aside") == [{"model_id": gone[0]}]


def test_released_pull_whose_row_is_locked_keeps_its_suspects(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    _, here, gone = vanished(odd, 15)
    row, runtime = here.pull(), here.runtime
    monkeypatch.setattr(held_pulls, "transaction", partial(transaction, lock_seconds=0.2))
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("select from headshotpro.pulls where id = %s for update", [row["id"]])
        with pytest.raises(LockUnavailable):
            held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, row["id"], TESTER)
    assert here.sql("select 1 from headshotpro.set_aside") == []
    assert held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, row["id"], TESTER) == len(gone)


def test_pull_command_names_what_it_postponed(odd: StartOdd, folder: Path) -> None:
    vendor, here, (gone,) = vanished(odd, 1)
    vendor.singles[gone] = (404, "<h1>Not found</h1>")
    cli = Cli(folder, **here.variables)
    done = cli.run("pull")
    assert done.status == 0, done
    assert "1 model is not in the list, and its GET failed three times, or Postgres refused the row" in done.out
    assert f" row: {gone}. " in done.out


def test_suspect_whose_row_postgres_refuses_is_postponed(odd: StartOdd) -> None:
    _, here, gone = vanished(odd, 3)
    refused, *decided = gone
    here.sql(f"alter table headshotpro.models add check (id <> '{refused}' or status <> 'deleted') not valid")
    row = here.pull()
    assert (row["status"], row["tombstoned"], row["postponed"], row["set_aside"]) == ("complete", 2, [refused], 1)
    assert [here.model(one)["status"] for one in (refused, *decided)] == ["active", "deleted", "deleted"]


# --- models that never were


@pytest.mark.parametrize("created", [None, "2106-02-07T06:28:15.000Z", "9999-01-01T00:00:00Z"])
def test_model_of_the_future_that_never_was_does_not_stay_live(
    odd: StartOdd, drainer: Drainer, created: str | None
) -> None:
    _, here = odd(models(3))
    drainer.take(event_body(NEVER_BORN, "model.created", status="onboarding", createdAt=created))
    assert here.model(NEVER_BORN)["status"] == "onboarding"
    row = here.pull()
    assert (row["status"], row["tombstoned"]) == ("complete", 1)
    assert here.model(NEVER_BORN)["status"] == "deleted"


# --- the alert


def test_set_aside_record_alerts_until_it_is_read(odd: StartOdd) -> None:
    vendor, here = odd([model(1, teamId=5), None])
    assert here.pull()["status"] == "complete"
    here.sql("update headshotpro.set_aside set found_at = found_at - interval '1 minute'")
    with alerting_harness(here.settings.postgres_url) as watch:
        watch.look()
        (alert,) = watch.alerts()
        assert alert["kind"] == "records_set_aside"
        assert alert["detail"] == {"rows": 2, "models": [model(1)["id"]]}
        vendor.records[:] = [model(1)]
        assert here.pull()["status"] == "complete"
        watch.look()
        assert watch.alerts() == []
