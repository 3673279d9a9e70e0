"""One odd record spoils nothing but itself: pulls, GETs, verify, the API and the command line go on with the rest."""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_verify import differences
from tests.support.cli import Cli
from tests.support.list_vendor import BAD_BYTE, model, models
from tests.support.mirror import open_rows

if TYPE_CHECKING:
    from tests.integration.conftest import StartOdd

COUNT = 230
ODD = 77
ODD_ID = model(ODD)["id"]
LETTERS = "".join(random.Random(1).choices(string.ascii_letters, k=3000))

# A changed field of one record to the fields that are set aside.
ODD_FIELDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"teamId": 12345}, ["teamId"]),
    ({"finishedAt": ""}, ["finishedAt"]),
    ({"email": LETTERS}, ["email"]),
    ({"email": "é" * 501}, ["email"]),
    ({"title": BAD_BYTE}, ["title"]),
    ({"createdAt": "0000-01-01T00:00:00Z"}, ["createdAt"]),
    ({"createdAt": "99999-01-01T00:00:00Z"}, ["createdAt"]),
    ({"isDevelopment": "yes"}, ["isDevelopment"]),
    ({"status": 5}, ["status"]),
    ({"title": {"first": "Ann"}, "teamName": ["x"]}, ["teamName", "title"]),
    ({"createdAt": 10**400}, ["createdAt"]),
    ({"finishedAt": float("nan"), "title": float("inf")}, ["finishedAt", "title"]),
]
# Records without an id by which the upstream could be asked about them.
NO_RECORDS: list[Any] = [
    model(ODD, id=None),
    model(ODD, id=""),
    None,
    model(ODD, id=12345),
    model(ODD, id="a" * 2000),
    model(ODD, id=f"a{BAD_BYTE}"),
    model(ODD, id="a\0b"),
    "text",
    [],
    {},
]


def with_odd(record: Any) -> list[Any]:
    records = models(COUNT)
    records[ODD] = record
    return records


@pytest.mark.parametrize(("changes", "fields"), ODD_FIELDS)
def test_odd_field_is_absent_and_the_rest_is_mirrored(
    odd: StartOdd, changes: dict[str, Any], fields: list[str]
) -> None:
    _, here = odd(with_odd(model(ODD, **changes)))
    row = here.pull()
    assert (row["status"], row["error"], row["inserted"], row["set_aside"]) == ("complete", None, COUNT, 1)
    (aside,) = open_rows(here)
    assert (aside["model_id"], aside["fields"], aside["pull_id"]) == (ODD_ID, fields, row["id"])
    mirrored = here.model(ODD_ID)
    assert mirrored["uid"] == f"user{ODD}"
    columns = {"teamId": "team_id", "finishedAt": "finished_at", "createdAt": "created_at", "teamName": "team_name"}
    columns["isDevelopment"] = "is_development"
    assert [mirrored[columns.get(name, name)] for name in fields] == [None] * len(fields)
    assert differences(here) == []


@pytest.mark.parametrize("record", NO_RECORDS)
def test_unreadable_record_is_set_aside_and_the_pull_completes(odd: StartOdd, record: Any) -> None:
    vendor, here = odd(with_odd(record))
    row = here.pull()
    assert (row["status"], row["error"], row["inserted"], row["set_aside"]) == ("complete", None, COUNT - 1, 1)
    (aside,) = open_rows(here)
    assert (aside["model_id"], aside["fields"]) == (None, [])
    assert vendor.lists == 2
    assert differences(here) == []


def test_model_behind_an_unreadable_record_stays_alive(odd: StartOdd) -> None:
    vendor, here = odd(models(COUNT))
    here.pull()
    vendor.records[ODD] = model(ODD, id=None)
    vendor.singles[ODD_ID] = (200, {"success": True, "model": model(ODD)})
    gone = vendor.records.pop()["id"]
    here.sql("update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute'")
    row = here.pull()
    assert (row["status"], row["tombstoned"]) == ("complete", 1)
    assert here.model(ODD_ID)["status"] == "active"
    assert here.model(gone)["status"] == "deleted"


def test_deletions_are_found_beside_every_odd_record(odd: StartOdd) -> None:
    records = [model(number, **changes) for number, (changes, _) in enumerate(ODD_FIELDS)] + NO_RECORDS
    vendor, here = odd(records + [model(number) for number in range(100, 120)])
    assert here.pull()["status"] == "complete"
    gone = vendor.records.pop()["id"]
    here.sql("update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute'")
    row = here.pull()
    assert (row["status"], row["tombstoned"]) == ("complete", 1)
    assert here.model(gone)["status"] == "deleted"


def test_long_text_that_no_index_holds_is_kept_whole(odd: StartOdd) -> None:
    title, address = "x" * 5000, "a" * 988 + "@example.com"
    _, here = odd([model(1, title=title, email=address)])
    assert here.pull()["set_aside"] == 0
    row = here.model(model(1)["id"])
    assert (row["title"], row["email"]) == (title, address)


def test_halves_of_characters_and_nul_are_replaced_not_set_aside(odd: StartOdd) -> None:
    _, here = odd([model(1, title="Ann\ud83d", teamName="a\0b")])
    assert here.pull()["set_aside"] == 0
    row = here.model(model(1)["id"])
    assert (row["title"], row["team_name"]) == ("Ann\ufffd", "a\ufffdb")


@pytest.mark.parametrize("model_id", ["a/b", "a b", "é?#%", "..%2f", "-", "' or 1=1", "\u202e", "x" * 255])
def test_odd_id_is_mirrored_asked_about_and_deleted(odd: StartOdd, model_id: str) -> None:
    vendor, here = odd([model(1), model(2, id=model_id)])
    assert (here.pull()["status"], here.model(model_id)["status"]) == ("complete", "active")
    vendor.records.pop()
    here.sql("update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute'")
    assert here.pull()["tombstoned"] == 1


BARE = {"id": ODD_ID, "status": "active", "title": "Bare"}


@pytest.mark.parametrize("bare", [BARE, {"id": ODD_ID}, {**BARE, "email": 5}], ids=["no profile", "id", "odd email"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_record_without_a_profile_is_met_and_keeps_what_is_known(odd: StartOdd, bare: Any, *, known: bool) -> None:
    vendor, here = odd(models(COUNT))
    if known:
        here.pull()
    vendor.records[ODD] = bare
    row = here.pull()
    assert (row["status"], row["error"]) == ("complete", None)
    if known:
        assert here.model(ODD_ID)["email"] == f"person{ODD}@example.com"
    gone = vendor.records.pop()["id"]
    here.sql("update headshotpro.model_clocks set profile_at = profile_at - interval '1 minute'")
    row = here.pull()
    assert (row["status"], row["tombstoned"]) == ("complete", 1)
    assert here.model(gone)["status"] == "deleted"


def test_record_that_is_well_again_resolves_its_row(odd: StartOdd) -> None:
    vendor, here = odd([model(1, teamId=5), model(2), None])
    assert here.pull()["set_aside"] == 2
    here.sql("update headshotpro.set_aside set found_at = found_at - interval '1 minute'")
    again = here.pull()
    assert again["set_aside"] == 2
    assert len(here.sql("select id from headshotpro.set_aside")) == 2
    vendor.records[:] = [model(1, teamId="5"), model(2)]
    well = here.pull()
    assert (well["status"], well["set_aside"], open_rows(here)) == ("complete", 0, [])
    assert here.model(model(1)["id"])["team_id"] == "5"


def test_resolved_rows_are_kept_as_long_as_events(odd: StartOdd) -> None:
    from service.mirror.retention import RetentionLimits, apply_limits

    _, here = odd([model(1, teamId=5), model(2, teamId=5), model(3, teamId=5)])
    here.pull()
    for number, days in ((1, 31), (2, 29)):
        here.sql(
            f"update headshotpro.set_aside set resolved_at = now() - interval '{days} days' where model_id = %s",
            model(number)["id"],
        )
    apply_limits(here.runtime.engine, RetentionLimits(30, 0, 30), 5)
    left = [row["model_id"] for row in here.sql("select model_id from headshotpro.set_aside order by model_id")]
    assert left == [model(2)["id"], model(3)["id"]]


def test_status_that_is_null_or_empty_changes_nothing(odd: StartOdd) -> None:
    vendor, here = odd([model(1), model(2)])
    here.pull()
    vendor.records[:] = [model(1, status=None), model(2, status="")]
    assert here.pull()["status"] == "complete"
    assert [row["status"] for row in here.sql("select status from headshotpro.models")] == ["active", "active"]


NASTY: list[Any] = [
    None, "", 0, -1, 1.5, 10**30, float("nan"), True, [], {}, [[[]]], {"a": {"b": None}}, "\0", "\ud800", BAD_BYTE,
    "x" * 3000, "é" * 400, "2024-01-01", "2024-02-30T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", "24:00", "null", "\u202e\ufeff", "%s", "'; drop table models; --", "{}", "{1,2}",
    "\\N", "deleted", "active", "2024-01-01T00:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_garbage_in_any_field_of_any_record_fails_no_pull(odd: StartOdd, seed: int) -> None:
    rng = random.Random(seed)
    records: list[Any] = []
    for number in range(COUNT):
        record = model(number)
        for name in rng.sample(sorted(record), rng.randint(0, 4)):
            record[name] = rng.choice(NASTY)
        if record["id"] and isinstance(record["id"], str):
            # Each its own: the list counts them.
            record["id"] += str(number)
        if rng.random() < 0.1:
            del record[rng.choice(sorted(record))]
        records.append(record if rng.random() < 0.97 else rng.choice(NASTY))
    _, here = odd(records)
    row = here.pull()
    assert (row["status"], row["error"]) == ("complete", None)
    again = here.pull()
    assert (again["status"], again["inserted"], again["set_aside"]) == ("complete", 0, row["set_aside"])
    assert differences(here) == []


# --- the organization


@pytest.mark.parametrize("teams", [[{"id": None, "name": "x"}], "none", [None]])
def test_odd_teams_are_no_obstacle_to_a_pull(odd: StartOdd, teams: Any) -> None:
    vendor, here = odd(models(3))
    vendor.organization["organization"]["teams"] = teams
    assert here.pull()["status"] == "complete"


@pytest.mark.parametrize("uid", [None, "", 5])
def test_organization_without_uid_fails_the_pull_clearly(odd: StartOdd, uid: Any) -> None:
    vendor, here = odd(models(3))
    vendor.organization["organization"]["uid"] = uid
    for _ in range(5):
        here.slice(wake=True, interval=60)
    (row,) = here.sql("select * from headshotpro.pulls")
    assert (row["status"], vendor.lists) == ("failed", 0)
    assert "`uid` is missing or cannot be used" in row["error"]


# --- single GETs


def test_unexpected_error_ends_the_pull_as_failed(odd: StartOdd, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.mirror import pull as module

    _, here = odd(models(3))

    def crash(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(module, "merge_pages", crash)
    row = here.pull()
    assert (row["status"], row["error"]) == ("failed", "unexpected error, please report it: ZeroDivisionError")


# --- who reads the mirror


def test_api_and_commands_survive_odd_records(odd: StartOdd, folder: Any) -> None:
    from tests.support.webhook_endpoint import client_of

    records = [model(number, **changes) for number, (changes, _) in enumerate(ODD_FIELDS)] + NO_RECORDS
    _, here = odd(records, mirror_api_keys="ro:reader")
    cli = Cli(folder, **here.variables)
    done = cli.run("pull")
    assert done.status == 0, done
    assert f"{len(ODD_FIELDS) + 2} records or fields could not be used" in done.out
    assert [cli.run("models", "show", model(number)["id"], "--explain").status for number in (0, 4)] == [0, 0]
    assert len(cli.run("models", "list", "--json").document) == len(ODD_FIELDS)
    checked_done = cli.run("verify")
    assert checked_done.status == 0, checked_done
    assert "could not be read, and so not compared" in checked_done.out
    client = client_of(
        folder,
        DATABASE_URL=here.settings.database_url,
        REDIS_URL=here.settings.redis_url,
        MIRROR_API_KEYS="ro:reader-key-of-tests",
    )
    answer = client.get("/api/v2/organization/models", headers={"Authorization": "Bearer reader-key-of-tests"})
    assert answer.status_code == 200
    assert len(answer.get_json()["models"]) == len(ODD_FIELDS)
