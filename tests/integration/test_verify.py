"""`verify`: every difference between upstream and mirror, with the history behind it; it changes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from service.mirror.detail_sweep import sweep
from service.mirror.verify import GET_BURST, GET_BURST_SECONDS, SETTLE_SECONDS, Difference, Verifier
from tests.support.cli import Cli
from tests.support.drainer import T0
from tests.support.mirror import LIST, LISTED, SINGLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror


def differences(
    here: Mirror, *, details: bool = False, pause: Callable[[float], None] = lambda _seconds: None
) -> list[Difference]:
    """The result of a comparison; `pause` is called while it waits."""
    return verifier_of(here, pause, details=details).differences()


def verifier_of(here: Mirror, pause: Callable[[float], None] = lambda _seconds: None, **options: Any) -> Verifier:
    engine, client = here.runtime.engine, here.runtime.client
    return Verifier(engine, client, pause, lambda *_progress: None, **{"details": False, "limit": 100, **options})


def mend(here: Mirror, model_id: str, **columns: Any) -> None:
    """Write into a row by hand."""
    for name, value in columns.items():
        here.sql(f"update headshotpro.models set {name} = %s where id = %s", value, model_id)


def settled(mirror: StartMirror, number: int = 5, **options: Any) -> tuple[Mirror, list[str]]:
    """A mirror in which all is right, details too, and its models."""
    here = mirror(models=0, **options)
    ids = sorted(model["id"] for model in here.create(number, status="active", teamId=None))
    here.pull()
    sweep(here.runtime.engine, here.runtime.client, 5)
    here.advance_vendor_clock()
    here.forget_requests()
    return here, ids


# --- the command


def test_verify_prints_differences_with_history_and_exits_1(
    mirror: StartMirror, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mirror.verify.SETTLE_SECONDS", 0.01)
    here, ids = settled(mirror)
    title, finished_at = (here.model(ids[1])[name] for name in ("title", "finished_at"))
    (pull,) = here.sql("select id from headshotpro.pulls")
    mend(here, ids[1], title="Somebody else", finished_at=None)
    mend(here, ids[2], favorite_photo_id="5" * 24)
    cli = Cli(folder, **here.variables)
    done = cli.run("verify", "--details")
    assert done.status == 1, done
    lines = done.out.splitlines()
    assert f"{ids[1]}  title: mirror Somebody else, upstream {title}" in lines
    assert f"{ids[2]}  favorite_photo_id: mirror {'5' * 24}, upstream -" in lines
    assert lines[-1] == "3 differences in 2 models."
    behind = lines[lines.index(f"{ids[1]}  title: mirror Somebody else, upstream {title}") + 1]
    assert f"- → {title}  by pull {pull['id']}, as of " in behind

    told = cli.run("verify", "--json")
    assert told.status == 1, told
    by_field = {difference["field"]: difference for difference in told.document}
    assert by_field.keys() == {"title", "finished_at"}
    assert (by_field["title"]["mirror"], by_field["title"]["upstream"]) == ("Somebody else", title)
    assert by_field["finished_at"]["mirror"] is None
    assert datetime.fromisoformat(by_field["finished_at"]["upstream"]) == finished_at
    assert [change["source"] for change in by_field["title"]["history"]] == ["pull"]
    # They are reported, not mended.
    assert here.model(ids[1])["title"] == "Somebody else"


def test_verify_of_an_exact_mirror_exits_0(mirror: StartMirror, folder: Path) -> None:
    here, ids = settled(mirror)
    before = here.versions()
    cli = Cli(folder, **here.variables)
    done = cli.run("verify", "--details")
    assert (done.status, done.out) == (0, f"No difference; models compared: {len(ids)}.\n"), done
    assert done.err.startswith("Reading the upstream's list …\n")
    assert (here.request_counts(LIST), here.request_counts(SINGLE)) == ({200: 1}, {200: len(ids)})
    assert here.versions() == before


def test_verify_shows_differences_up_to_limit_and_counts_all(
    mirror: StartMirror, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mirror.verify.SETTLE_SECONDS", 0.01)
    here, ids = settled(mirror, number=30)
    here.sql("update headshotpro.models set title = 'Somebody else'")
    cli = Cli(folder, **here.variables)
    done = cli.run("verify", "--limit", "2")
    assert done.status == 1, done
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines if "mirror Somebody else" in line] == ids[:2]
    assert lines[-3:] == [
        "30 differences in 30 models.",
        "2 are shown; `--limit 30` shows all.",
        "28 of these models were compared with the list twice, and with no GET of their own.",
    ]
    # The list twice, and two models twice, instead of two GETs for each of thirty.
    assert (here.request_counts(LIST), here.request_counts(SINGLE)) == ({200: 2}, {200: 4})
    assert "1 is shown; `--limit 30` shows all.\n" in cli.run("verify", "--limit", "1").out


# --- many differences


def test_difference_beyond_limit_that_heals_is_not_reported(mirror: StartMirror) -> None:
    here, ids = settled(mirror, number=6)
    title = here.model(ids[5])["title"]
    for model_id in ids:
        mend(here, model_id, title="Somebody else")
    verifier = verifier_of(here, lambda _seconds: mend(here, ids[5], title=title), limit=2)
    assert [difference.model_id for difference in verifier.differences()] == ids[:5]
    assert verifier.listed_only == 3


def test_details_that_differ_beyond_the_limit_are_counted(mirror: StartMirror) -> None:
    here, ids = settled(mirror, number=4)
    here.sql("update headshotpro.models set photo_count = 7")
    verifier = verifier_of(here, details=True, limit=1)
    assert [(difference.model_id, difference.field) for difference in verifier.differences()] == [
        (model_id, "photo_count") for model_id in ids
    ]


def test_gets_of_a_comparison_are_spread_over_time(mirror: StartMirror) -> None:
    number = 2 * GET_BURST + 1
    here, _ids = settled(mirror, number=number)
    here.sql("update headshotpro.models set title = 'Somebody else'")
    pauses: list[float] = []
    assert len(verifier_of(here, pauses.append).differences()) == number
    early = [seconds for seconds in pauses if seconds != SETTLE_SECONDS]
    # Before each burst but the first one, of all GETs in two rounds.
    assert len(early) == (2 * number - 1) // GET_BURST
    assert all(0 < seconds <= GET_BURST_SECONDS for seconds in early)


# --- what differs


def test_every_field_of_the_list_is_compared(mirror: StartMirror) -> None:
    here, ids = settled(mirror, number=len(LISTED))
    expected = []
    for model_id, column in zip(ids, LISTED, strict=True):
        wrong: Any = {"is_development": True, "created_at": T0, "finished_at": T0}.get(column, "wrong")
        expected.append(Difference(model_id, column, wrong, here.model(model_id)[column]))
        mend(here, model_id, **{column: wrong})
    assert differences(here) == expected
    # The list, and a second and third look at each model.
    assert (here.request_counts(LIST), here.request_counts(SINGLE)) == ({200: 1}, {200: 2 * len(ids)})


def test_details_are_compared_on_demand(mirror: StartMirror) -> None:
    here, ids = settled(mirror)
    true = here.model(ids[0])["photo_count"]
    mend(here, ids[0], photo_count=7)
    assert differences(here) == []
    assert here.request_counts(SINGLE).total() == 0
    assert differences(here, details=True) == [Difference(ids[0], "photo_count", 7, true)]


def test_a_model_that_only_one_side_has_is_a_difference(mirror: StartMirror) -> None:
    here, ids = settled(mirror)
    here.sql("delete from headshotpro.models where id = %s", ids[0])
    here.vanish(ids[1])
    mend(here, ids[2], status="deleted", deleted_at=T0)
    assert differences(here) == [
        Difference(ids[0], "status", "(not there)", "active"),
        Difference(ids[1], "status", "active", "(not there)"),
        Difference(ids[2], "status", "deleted", "active"),
    ]


@pytest.mark.parametrize("deleted", ["hidden", "listed"])
def test_what_is_deleted_on_both_sides_is_no_difference(mirror: StartMirror, deleted: str) -> None:
    here, ids = settled(mirror, deleted=deleted)
    here.enable_webhooks()
    here.vendor.control("DELETE", f"/models/{ids[0]}?events=1")
    here.apply_webhooks()
    assert here.model(ids[0])["status"] == "deleted"
    # Its title is erased, and the vendor may show or hide it.
    mend(here, ids[0], title="Somebody else")
    assert differences(here, details=True) == []


def test_an_erased_tombstone_is_passed_over(mirror: StartMirror) -> None:
    here, ids = settled(mirror, deleted="listed")
    here.change(ids[0], status="deleted")
    mend(here, ids[0], status="deleted", deleted_at=T0, erased_at=T0, title=None, email=None)
    assert differences(here, details=True) == []


# --- a world that goes on


def test_events_that_are_on_their_way_are_no_differences(mirror: StartMirror) -> None:
    here, ids = settled(mirror)
    here.enable_webhooks()
    here.change(ids[0], status="failed", events=True)
    here.create(events=True)
    here.vendor.control("DELETE", f"/models/{ids[1]}?events=1")
    pauses: list[float] = []

    def catch_up(seconds: float) -> None:
        pauses.append(seconds)
        here.apply_webhooks()
        here.make_refetches_due()
        here.refetch()

    assert differences(here, pause=catch_up) == []
    assert pauses == [SETTLE_SECONDS]


def test_a_list_that_moves_under_the_reader_is_read_whole(mirror: StartMirror) -> None:
    here = mirror(models=450)
    here.pull()
    here.advance_vendor_clock()
    settled_ones = here.live_ids()
    here.set_switches(drift=1)

    def stop() -> None:
        here.set_switches(drift=0)
        here.pull()

    assert differences(here, pause=lambda _seconds: stop()) == []
    assert here.live_ids() != settled_ones
