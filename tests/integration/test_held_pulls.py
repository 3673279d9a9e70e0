"""Held pulls: what waits for a person, what goes on meanwhile, and what becomes of it either way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import MirrorError, Stopping
from service.mirror import held_pulls
from tests.support.acting import TESTER
from tests.support.cli import Cli
from tests.support.console import console, log_in
from tests.support.mirror import LIST, SINGLE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror

# Of 60 models; the limit is a fifth.
VANISHED = 15


def held(here: Mirror) -> tuple[dict[str, Any], list[str]]:
    """A pull that is held, and its suspects; 45 other models live on."""
    models = [model["id"] for model in here.create(60, status="active")]
    here.pull()
    here.vanish(*models[:VANISHED])
    here.advance_vendor_clock()
    pull = here.pull()
    assert (pull["status"], pull["tombstoned"]) == ("held", 0)
    return pull, models[:VANISHED]


def row_of(here: Mirror, pull: dict[str, Any]) -> dict[str, Any]:
    (row,) = here.sql("select * from headshotpro.pulls where id = %s", pull["id"])
    return row


def statuses(here: Mirror, ids: list[str]) -> Counter[str]:
    return Counter(here.model(model_id)["status"] for model_id in ids)


# --- release


def test_release_checks_each_suspect_by_get_and_completes_pull(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    # Two of them were only hidden for a while: what counts is what the upstream says now.
    for model_id in suspects[:2]:
        here.change(model_id, vanished=False, status="active", deletedAt=None)
    here.forget_requests()
    cli = Cli(folder, **here.variables)
    done = cli.run("pulls", "release", str(pull["id"]))
    assert (done.status, done.out) == (0, f"Pull {pull['id']} is complete: 13 of its suspects were deleted.\n"), done
    assert here.request_counts(SINGLE) == {200: 2, 404: 13}
    row = row_of(here, pull)
    assert (row["status"], row["tombstoned"], row["error"]) == ("complete", 13, None)
    assert row["requests"] == pull["requests"] + VANISHED
    assert here.differences() == []
    assert here.sql("select * from headshotpro.held_suspects") == []


def test_the_evidence_of_a_released_pull_is_in_the_history(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    held_pulls.release(here.runtime.engine, here.runtime.client, here.runtime.requests_sent, pull["id"], TESTER)
    for model_id in suspects:
        row, change = here.model(model_id), here.changes(model_id)[-1]
        evidence = {"source": "pull", "pull_id": pull["id"], "from_status": "active", "to_status": "deleted"}
        assert {name: change[name] for name in evidence} == evidence
        assert row["deleted_at"] == change["observed_at"] == row["observed_at"]


def test_a_release_that_was_interrupted_goes_on_where_it_was(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    engine, client = here.runtime.engine, here.runtime.client
    looks = iter(range(8))

    def counted() -> int:
        if next(looks, None) is None:
            raise Stopping
        return here.runtime.requests_sent()

    with pytest.raises(Stopping):
        held_pulls.release(engine, client, counted, pull["id"], TESTER)
    # The first look came before the first suspect.
    assert statuses(here, suspects) == {"deleted": 7, "active": 8}
    assert row_of(here, pull)["status"] == "held"
    here.forget_requests()
    assert held_pulls.release(engine, client, here.runtime.requests_sent, pull["id"], TESTER) == 8
    assert here.request_counts(SINGLE) == {404: 8}
    assert statuses(here, suspects) == {"deleted": VANISHED}
    row = row_of(here, pull)
    assert (row["status"], row["tombstoned"]) == ("complete", VANISHED)


# --- meanwhile


def test_next_pulls_work_and_skip_suspects_of_a_held_pull(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    others = sorted(here.live_ids())
    here.vanish(others[0])
    here.change(others[1], title="Somebody else")
    here.advance_vendor_clock()
    here.forget_requests()
    following = here.pull()
    assert (following["status"], following["tombstoned"], following["changed"]) == ("complete", 1, 1)
    assert here.request_counts(SINGLE) == {404: 1}
    assert here.model(others[0])["status"] == "deleted"
    assert here.model(others[1])["title"] == "Somebody else"
    assert statuses(here, suspects) == {"active": VANISHED}
    assert row_of(here, pull)["status"] == "held"


def test_reappeared_suspects_stay_live_when_pull_is_released(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    for model_id in suspects:
        here.change(model_id, vanished=False, status="active", deletedAt=None)
    here.advance_vendor_clock()
    assert here.pull()["status"] == "complete"
    runtime = here.runtime
    assert held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, pull["id"], TESTER) == 0
    assert here.differences() == []


def test_reappeared_suspect_deleted_later_becomes_a_tombstone(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    for model_id in suspects[1:]:
        here.change(model_id, vanished=False, status="active", deletedAt=None)
    here.advance_vendor_clock()
    assert here.pull()["status"] == "complete"
    here.vanish(suspects[1])
    here.advance_vendor_clock()
    following = here.pull()
    assert (following["status"], following["tombstoned"]) == ("complete", 1)
    assert here.model(suspects[1])["status"] == "deleted"
    # This one was never shown again: a person decides about it.
    assert here.model(suspects[0])["status"] == "active"
    assert row_of(here, pull)["status"] == "held"


def test_new_suspects_during_a_held_pull_hold_their_own_pull(mirror: StartMirror) -> None:
    here = mirror(models=0)
    first, _ = held(here)
    here.vanish(*sorted(here.live_ids())[:20])
    here.advance_vendor_clock()
    second = here.pull()
    assert second["status"] == "held"
    assert "20 of 60" in second["error"]
    runtime, release = here.runtime, held_pulls.release
    assert release(runtime.engine, runtime.client, runtime.requests_sent, second["id"], TESTER) == 20
    assert release(runtime.engine, runtime.client, runtime.requests_sent, first["id"], TESTER) == VANISHED
    assert here.differences() == []


# --- reject


def test_reject_fails_the_pull_and_skips_its_suspects_for_a_day(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    cli = Cli(folder, **here.variables)
    done = cli.run("pulls", "reject", str(pull["id"]), LOG_LEVEL="warning")
    words = f"Pull {pull['id']} has failed; its suspects are left alone for a day.\n"
    assert (done.status, done.out, done.err) == (0, words, "")
    row = row_of(here, pull)
    assert (row["status"], row["error"]) == ("failed", "rejected by a person")
    # For a day less a minute they are not suspects again; other missing models are decided as always.
    here.sql("update headshotpro.held_suspects set kept_until = kept_until - interval '1439 min'")
    other = min(here.live_ids())
    here.vanish(other)
    here.advance_vendor_clock()
    here.forget_requests()
    following = here.pull()
    assert (following["status"], following["tombstoned"]) == ("complete", 1)
    assert here.request_counts(SINGLE) == {404: 1}
    assert statuses(here, suspects) == {"active": VANISHED}
    # Then they are suspects like any others.
    here.sql("update headshotpro.held_suspects set kept_until = kept_until - interval '1 min'")
    here.advance_vendor_clock()
    assert here.pull()["status"] == "held"
    assert statuses(here, suspects) == {"active": VANISHED}
    # Earlier decisions are deleted later.
    assert len(here.sql("select * from headshotpro.held_suspects")) == VANISHED


def test_reject_stops_a_release_that_is_in_flight(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    runtime = here.runtime
    decisions = held_pulls.decide(
        runtime.engine, runtime.client, runtime.requests_sent, pull["id"], held_pulls.PullState()
    )
    for _ in range(7):
        next(decisions)
    held_pulls.reject(runtime.engine, pull["id"], TESTER)
    with pytest.raises(MirrorError, match="is failed, not held"):
        next(decisions)
    assert statuses(here, suspects) == {"deleted": 7, "active": 8}
    assert (row_of(here, pull)["status"], row_of(here, pull)["error"]) == ("failed", "rejected by a person")
    # The next pull leaves them alone.
    assert len(here.sql("select * from headshotpro.held_suspects where kept_until > now()")) == VANISHED
    with pytest.raises(MirrorError, match="is failed, not held"):
        held_pulls.reject(runtime.engine, pull["id"], TESTER)


def kept_suspects(cli: Cli) -> Any:
    return cli.run("status", "--json").document["kept_suspects"]


def test_status_counts_kept_suspects_until_they_are_shown(
    mirror: StartMirror, folder: Path, database_url: str, redis_url: str
) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    cli = Cli(folder, **here.variables)
    assert (cli.run("pulls", "reject", str(pull["id"])).status, kept_suspects(cli)) == (0, VANISHED)
    log_in(browser := console(folder, database_url, redis_url))
    assert f"left alone for a day: {VANISHED} models." in browser.get("/console/pulls").text
    here.change(suspects[0], vanished=False, status="active", deletedAt=None)
    here.advance_vendor_clock()
    assert (here.pull()["status"], kept_suspects(cli)) == ("complete", VANISHED - 1)
    here.sql("update headshotpro.held_suspects set kept_until = now()")
    assert kept_suspects(cli) == 0


# --- wrong organization


def test_release_with_another_organizations_key_decides_nothing(mirror: StartMirror) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    here.forget_requests()
    runtime = here.runtime
    with pytest.raises(MirrorError, match="org_of_somebody_else; this database mirrors"):
        held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, pull["id"], TESTER)
    assert here.request_counts(SINGLE) == {}
    assert statuses(here, suspects) == {"active": VANISHED}
    assert row_of(here, pull)["status"] == "held"


def test_pull_held_for_organization_restarts_after_adoption(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    models = [model["id"] for model in here.create(20, status="active")]
    here.pull()
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    here.change(models[0], title="Somebody else")
    pull = here.pull()
    assert (pull["status"], pull["pages"]) == ("held", 0)
    cli = Cli(folder, **here.variables)
    adopt = ("pulls", "release", str(pull["id"]), "--adopt-organization", "org_of_somebody_else")
    done = cli.run(*adopt, "--yes")
    assert done.status == 0, done
    assert "with 20 models that are not deleted" in done.err
    assert "(org_of_somebody_else) now; the workers go on" in done.out
    here.advance_vendor_clock()
    released = here.pull()
    assert (released["id"], released["status"], released["error"]) == (pull["id"], "complete", None)
    assert here.differences() == []
    # From now on that is the one whose key is expected.
    assert here.pull()["status"] == "complete"


@pytest.mark.parametrize("adopted", [None, "org_of_a_third", "org_of_somebody_else"])
def test_another_organization_is_adopted_by_its_uid_and_a_yes(
    mirror: StartMirror, folder: Path, adopted: str | None
) -> None:
    here = mirror(models=3)
    here.pull()
    (before,) = here.sql("select * from headshotpro.organization")
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    pull = here.pull()
    cli = Cli(folder, **here.variables)
    option = ("--adopt-organization", adopted) if adopted else ()
    done = cli.run("pulls", "release", str(pull["id"]), *option)
    if adopted == "org_of_somebody_else":
        # Nobody is there to say yes.
        assert (done.status, "Hand this database over to" in done.err) == (1, True)
    else:
        last = done.err.splitlines()[-1]
        assert (done.status, last.endswith("--adopt-organization org_of_somebody_else`")) == (2, True), done
        assert before["uid"] in last
        assert ("not to org_of_a_third" in last) == (adopted is not None)
    assert here.sql("select * from headshotpro.organization") == [before]
    assert row_of(here, pull)["status"] == "held"


def test_pull_held_for_wrong_key_resumes_once_the_key_is_right(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=3)
    uid = here.vendor.control("POST", "/organization", {})["uid"]
    here.pull()
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    pull = here.pull()
    here.vendor.control("POST", "/organization", {"uid": uid})
    cli = Cli(folder, **here.variables)
    done = cli.run("pulls", "release", str(pull["id"]))
    assert (done.status, done.err.count("Only a backup")) == (0, 0), done
    assert here.pull()["id"] == pull["id"]


def test_a_pull_held_for_its_suspects_adopts_no_organization(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=0)
    pull, suspects = held(here)
    cli = Cli(folder, **here.variables)
    done = cli.run("pulls", "release", str(pull["id"]), "--adopt-organization", "org", "--yes")
    assert (done.status, "is held for its suspects" in done.err) == (2, True), done
    assert statuses(here, suspects) == {"active": VANISHED}


def test_rejecting_a_pull_keeps_the_mirrored_organization(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=20)
    uid = here.vendor.control("POST", "/organization", {})["uid"]
    here.pull()
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    pull = here.pull()
    done = Cli(folder, **here.variables).run("pulls", "reject", str(pull["id"]), LOG_LEVEL="warning")
    assert done.out == f"Pull {pull['id']} has failed; it had no suspects.\n", done
    here.forget_requests()
    assert here.pull()["status"] == "held"
    assert here.request_counts(LIST).total() == 0
    here.vendor.control("POST", "/organization", {"uid": uid})
    assert here.pull()["status"] == "complete"


# --- what cannot be decided


def test_only_a_held_pull_can_be_decided(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=5)
    pull = here.pull()
    cli = Cli(folder, **here.variables)
    for arguments, words in (
        (("reject", str(pull["id"])), f"pull {pull['id']} is complete, not held"),
        (("reject", "4711"), "pull 4711 does not exist; `headshot-mirror pulls list` names those that are held"),
    ):
        done = cli.run("pulls", *arguments)
        assert done.status == 1, done
        assert words in done.err
    with pytest.raises(MirrorError, match="is complete, not held"):
        held_pulls.release(here.runtime.engine, here.runtime.client, here.runtime.requests_sent, pull["id"], TESTER)
