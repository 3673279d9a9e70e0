"""A row that Postgres refuses spoils nothing but itself: the pull mirrors the others, and finds deletions."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.api.writes import UpstreamWriter
from service.errors import MirrorError, Stopping
from service.mirror import ask_now, pull, pull_slice
from service.mirror import set_aside as refusals
from service.storage import audit
from tests.support.list_vendor import model, models

if TYPE_CHECKING:
    from tests.integration.conftest import StartOdd
    from tests.support.mirror import Mirror, Row

COUNT = 450
# In several pages, and next to each other.
REFUSED = (0, 249, 250, 251)
REFUSED_IDS = sorted(model(number)["id"] for number in REFUSED)


def refuse_poison(here: Mirror) -> None:
    """A person's constraint refuses some rows."""
    here.sql("alter table headshotpro.models add constraint poison check (title not like 'poison%%')")


def age(here: Mirror) -> None:
    """All models were last read a minute ago."""
    here.sql(
        "update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute', "
        "core_at = core_at - interval '1 minute'"
    )


def set_aside(here: Mirror) -> list[Row]:
    return here.sql("select * from headshotpro.set_aside where resolved_at is null order by model_id")


def test_new_row_that_postgres_refuses_is_set_aside(odd: StartOdd) -> None:
    records = models(COUNT)
    for number in REFUSED:
        records[number]["title"] = f"poison of Ann {number}"
    vendor, here = odd(records)
    refuse_poison(here)
    row = here.pull()
    assert (row["status"], row["error"], row["set_aside"]) == ("complete", None, len(REFUSED))
    assert row["inserted"] == row["models_seen"] == COUNT - len(REFUSED)
    assert row["pages"] == vendor.lists
    assert [one["model_id"] for one in set_aside(here)] == REFUSED_IDS
    assert {one["reason"] for one in set_aside(here)} == {"Postgres refused it: CheckViolation"}


def test_deletions_are_found_beside_a_refused_row(odd: StartOdd) -> None:
    vendor, here = odd(models(COUNT))
    assert here.pull()["status"] == "complete"
    refuse_poison(here)
    age(here)
    for number in REFUSED:
        vendor.records[number]["title"] = "poison"
    vendor.records[5]["title"] = "new"
    gone = vendor.records.pop()["id"]
    row = here.pull()
    assert (row["status"], row["error"], row["tombstoned"], row["changed"]) == ("complete", None, 1, 1)
    assert (row["set_aside"], row["postponed"]) == (len(REFUSED), [])
    assert (here.model(gone)["status"], here.model(model(5)["id"])["title"]) == ("deleted", "new")
    assert all(vendor.gets(one) == 0 for one in REFUSED_IDS)
    # A pull that can write them closes them.
    here.sql("alter table headshotpro.models drop constraint poison")
    age(here)
    row = here.pull()
    assert (row["status"], row["changed"], row["set_aside"]) == ("complete", len(REFUSED), 0)
    assert set_aside(here) == []


def test_hot_pull_requests_no_get_for_a_refused_row(odd: StartOdd) -> None:
    records = [model(number, status="pending") for number in range(3)]
    vendor, here = odd(records)
    assert here.pull()["status"] == "complete"
    refuse_poison(here)
    age(here)
    vendor.records[1]["title"] = "poison"
    row = here.pull("hot")
    assert (row["status"], row["set_aside"]) == ("complete", 1)
    assert here.refetch_requests() == {}


def test_row_that_a_trigger_refuses_is_set_aside_without_values(odd: StartOdd) -> None:
    _, here = odd(models(3))
    here.sql(
        "create function headshotpro.refuse() returns trigger language plpgsql as "
        "'begin if new.id = ''" + model(1)["id"] + "'' then raise exception ''no %%'', new.email; end if; "
        "return new; end'"
    )
    here.sql(
        "create trigger refuse before insert on headshotpro.models for each row execute function headshotpro.refuse()"
    )
    row = here.pull()
    assert (row["status"], row["inserted"], row["set_aside"]) == ("complete", 2, 1)
    (aside,) = set_aside(here)
    assert aside["model_id"] == model(1)["id"]
    assert "@" not in aside["reason"]


def slow_down(here: Mirror, title: str) -> None:
    """A person's trigger takes longer than any statement may."""
    here.sql(
        "create function headshotpro.slow() returns trigger language plpgsql as "
        "'begin perform pg_sleep(60); return new; end'"
    )
    here.sql(
        "create trigger slow before insert or update on headshotpro.models for each row "
        f"when (new.title like '{title}') execute function headshotpro.slow()".replace("%", "%%")
    )


@pytest.fixture
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "PAGES_SECONDS", 4.0)
    monkeypatch.setattr(pull, "PAGES_LOCK_SECONDS", 1.0)
    monkeypatch.setattr(pull, "ONE_ROW_SECONDS", 2.0)
    monkeypatch.setattr(pull, "PARTS_SECONDS", 6.0)
    monkeypatch.setattr(pull_slice, "MAX_FAILURES", 2)
    monkeypatch.setattr(pull_slice, "FAILURE_PAUSE_SECONDS", 0.01)


@pytest.mark.usefixtures("_short_limits")
def test_row_that_takes_too_long_is_set_aside_and_pull_goes_on(odd: StartOdd) -> None:
    records = models(COUNT)
    records[7]["title"] = "slow"
    _, here = odd(records)
    slow_down(here, "slow")
    row = here.pull()
    assert (row["status"], row["error"], row["inserted"]) == ("complete", None, COUNT - 1)
    (aside,) = set_aside(here)
    assert (aside["model_id"], "longer than its limit" in aside["reason"]) == (model(7)["id"], True)


@pytest.mark.usefixtures("_short_limits")
def test_row_that_a_person_locks_is_set_aside_and_pull_goes_on(odd: StartOdd) -> None:
    vendor, here = odd(models(COUNT))
    assert here.pull()["status"] == "complete"
    age(here)
    held = model(7)["id"]
    for number in (7, 8):
        vendor.records[number]["title"] = "new"
    gone = vendor.records.pop()["id"]
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("select from headshotpro.models where id = %s for update", [held])
        row = here.pull()
    assert (row["status"], row["error"], row["changed"], row["tombstoned"]) == ("complete", None, 1, 1)
    (aside,) = set_aside(here)
    assert (aside["model_id"], aside["reason"].startswith("another transaction holds a lock")) == (held, True)
    assert here.model(gone)["status"] == "deleted"
    # The next pull writes it.
    age(here)
    assert (here.pull()["set_aside"], here.model(held)["title"], set_aside(here)) == (0, "new", [])


@pytest.mark.usefixtures("_short_limits")
@pytest.mark.parametrize("hold", [pytest.param("trigger", marks=pytest.mark.long), "lock"])
def test_rows_that_all_take_too_long_fail_the_pull_clearly(odd: StartOdd, hold: str) -> None:
    _, here = odd(models(60))
    with psycopg.connect(here.settings.postgres_url) as person:
        if hold == "lock":
            person.execute("lock table headshotpro.models in share mode")
        else:
            slow_down(here, "%")
        row = here.pull()
    words = "another transaction holds a lock" if hold == "lock" else "longer than its limit"
    assert (row["status"], words in row["error"], set_aside(here)) == ("failed", True, [])


@pytest.mark.usefixtures("_short_limits")
@pytest.mark.parametrize("count", [3, 60])
def test_short_lock_of_the_table_sets_no_row_aside(odd: StartOdd, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(pull_slice, "MAX_FAILURES", 9)
    _, here = odd(models(count))
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("lock table headshotpro.models in share mode")
        release = threading.Timer(3.0, person.rollback)
        release.start()
        row = here.pull()
        release.join()
    assert (row["status"], row["set_aside"], row["inserted"]) == ("complete", 0, count)


@pytest.mark.usefixtures("_short_limits")
def test_stop_is_heeded_while_a_page_is_merged_in_parts(odd: StartOdd) -> None:
    _, here = odd(models(60))
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("lock table headshotpro.models in share mode")
        stop = threading.Timer(2.0, here.runtime.stop.set)
        stop.start()
        with pytest.raises(Stopping):
            here.slice()
    here.runtime.stop.clear()
    row = here.pull()
    assert (row["id"], row["status"], row["set_aside"], row["inserted"]) == (1, "complete", 0, 60)


def test_slice_whose_time_is_up_leaves_the_next_page(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    records = models(COUNT)
    for record in records[::50]:
        record["title"] = "poison"
    _, here = odd(records)
    refuse_poison(here)
    note_refused = refusals.note_refused

    def note_slowly(*arguments: Any) -> None:
        time.sleep(4)
        note_refused(*arguments)

    with monkeypatch.context() as slow:
        slow.setattr(refusals, "note_refused", note_slowly)
        pull_id = here.slice(seconds=4)
    assert here.sql("select status, pages from headshotpro.pulls") == [{"status": "running", "pages": 1}]
    row = here.pull()
    assert (row["id"], row["status"], row["set_aside"]) == (pull_id, "complete", len(records[::50]))
    assert row["inserted"] == COUNT - len(records[::50])


@pytest.mark.usefixtures("_short_limits")
def test_suspect_whose_row_is_locked_for_a_moment_is_decided(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "SUSPECT_LOCK_SECONDS", 0.2)
    vendor, here = odd(models(40))
    assert here.pull()["status"] == "complete"
    age(here)
    gone = vendor.records.pop()["id"]
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("select from headshotpro.models where id = %s for update", [gone])
        pull_id = here.slice()
        person.rollback()
    assert here.slice(wake=True) == pull_id
    (row,) = here.sql("select * from headshotpro.pulls where id = %s", pull_id)
    assert (row["status"], row["postponed"], row["tombstoned"]) == ("complete", [], 1)
    assert set_aside(here) == []


@pytest.mark.usefixtures("_short_limits")
def test_suspect_whose_row_is_locked_is_postponed(odd: StartOdd) -> None:
    vendor, here = odd(models(40))
    assert here.pull()["status"] == "complete"
    age(here)
    held, gone = vendor.records.pop()["id"], vendor.records.pop()["id"]
    with psycopg.connect(here.settings.postgres_url) as person:
        person.execute("select from headshotpro.models where id = %s for update", [held])
        row = here.pull()
    assert (row["status"], row["postponed"], row["tombstoned"]) == ("complete", [held], 1)
    assert here.model(gone)["status"] == "deleted"


def test_pull_of_rows_that_are_all_refused_fails_and_says_so(odd: StartOdd) -> None:
    _, here = odd(models(COUNT))
    here.sql("alter table headshotpro.models add constraint poison check (title is null)")
    row = here.pull()
    assert (row["status"], row["set_aside"], row["models_seen"]) == ("failed", COUNT, 0)
    assert row["error"] == f"none of {COUNT} models could be written; the table set_aside has the reasons"


def test_single_model_that_is_refused_does_not_fail_the_pull(odd: StartOdd) -> None:
    _, here = odd(models(1))
    here.sql("alter table headshotpro.models add constraint poison check (title is null)")
    row = here.pull()
    assert (row["status"], row["error"], row["set_aside"]) == ("complete", None, 1)


def test_asking_now_about_a_refused_row_says_so_clearly(odd: StartOdd) -> None:
    vendor, here = odd(models(2))
    assert here.pull()["status"] == "complete"
    refuse_poison(here)
    age(here)
    vendor.records[1]["title"] = "poison of Ann"
    found, runtime = model(1)["id"], here.runtime
    actor = audit.Actor("Ada", audit.CONSOLE, None)
    with pytest.raises(MirrorError, match=f"^HeadshotPro sent {found}, and it was not written: Postgres refused it"):
        ask_now.ask_now(runtime.engine, runtime.client, found, actor, 5)
    (row,) = here.sql("select outcome, detail from headshotpro.audit_log where action = 'model.refetch'")
    assert (row["outcome"], "Ann" in str(row["detail"])) == ("failed", False)
    fresh = UpstreamWriter(runtime.engine, runtime.client, runtime.queue, runtime.stale_models).read_fresh(found)
    assert (fresh.status, b"poison of Ann" in fresh.body) == (200, True)
    assert here.model(found)["title"] == "Person 1"
