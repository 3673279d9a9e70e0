"""A row that Postgres refuses spoils nothing but itself: the pull mirrors the others, and finds deletions."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    assert {one["reason"] for one in set_aside(here)} == {"its row cannot be written: IntegrityError (CheckViolation)"}


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
