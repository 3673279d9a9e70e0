"""`headshot-mirror pull`: a pull in its own process, to its end and a little further, among others that pull."""

from __future__ import annotations

import json
import os
import pty
import re
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Cli
from tests.support.mirror import DETAILS, LIST, LISTED
from tests.support.processes import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.mirror import Mirror, StartMirror

    CliOf = Callable[[Mirror], Cli]


@pytest.fixture
def cli_of(folder: Path) -> Iterator[CliOf]:
    """The command line of a mirror's deployment; it prints no secret and no address."""
    made: list[Cli] = []

    def make(here: Mirror) -> Cli:
        made.append(Cli(folder, **here.variables))
        return made[-1]

    yield make
    assert [leak for cli in made for leak in cli.leaks()] == []


def test_pull_shows_progress_on_a_terminal_and_its_counts(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=30)
    cli = cli_of(here)
    ours, theirs = pty.openpty()
    process = cli.start("pull", stderr=theirs)
    os.close(theirs)
    shown = read_terminal(ours)
    done = cli.finish(process)
    assert done.status == 0
    assert done.out == "Pull 1 (full) is complete: 30 models seen in 2 requests; 30 new, 0 changed, 0 deleted.\n"
    assert "models" in shown
    assert "30/30" in shown
    # No lines of logs between the pieces of the bar.
    assert "{" not in shown
    assert here.differences() == []
    again = cli.run("pull", "--json")
    assert (again.status, again.document) == (0, cli.run("pulls", "list", "--limit", "1", "--json").document[0])
    again = cli.run("pulls", "list", "--json").document
    assert [(row["kind"], row["status"], row["models_seen"]) for row in again] == [("full", "complete", 30)] * 2


def test_pull_logs_as_the_processes_do_only_if_asked(mirror: StartMirror, cli_of: CliOf) -> None:
    cli = cli_of(mirror(models=3))
    done = cli.finish(cli.start("pull"))
    assert (done.status, done.err) == (0, "")
    asked = cli.finish(cli.start("pull", LOG_FORMAT="json"))
    assert "page" in {json.loads(line)["event"] for line in asked.err.splitlines()}


def read_terminal(descriptor: int) -> str:
    """Everything that is shown until the last program that has it open ends."""
    shown = b""
    try:
        while piece := os.read(descriptor, 65536):
            shown += piece
    except OSError:
        # Linux says so when the other side is closed.
        pass
    finally:
        os.close(descriptor)
    return shown.decode()


def test_a_hot_pull_settles_what_it_left_open(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=0)
    (model,) = here.create(status="generatingHeadshots")
    here.pull()
    here.change(model["id"], status="active", photoCount=40)
    here.advance_vendor_clock()
    cli = cli_of(here)
    done = cli.run("pull", "--hot")
    assert done.status == 0
    assert "(hot) is complete" in done.out
    # The model that was in no hot list any more has been looked up before the command ended.
    assert here.refetch_requests() == {}
    assert here.differences((*LISTED, *DETAILS)) == []


def test_behind_a_running_pull_it_waits_and_then_does_its_own(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=300)
    cli = cli_of(here)
    connected = connections(here)
    started: list[subprocess.Popen[str]] = []

    def hold() -> None:
        """After the first page: let the command come, and find the pull taken."""
        if not started:
            started.append(cli.start("pull"))
            assert eventually(lambda: connections(here) > connected + 1)

    first = here.pull(between=hold)
    done = cli.finish(started[0])
    assert (done.status, first["status"]) == (0, "complete")
    assert "Pull 2 (full) is complete: " in done.out
    ended, began = here.sql("select started_at, finished_at from headshotpro.pulls order by id")
    assert ended["finished_at"] <= began["started_at"]
    assert here.request_counts(LIST) == {200: 4}


def test_pull_first_finishes_the_pull_of_a_dead_process(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=300)
    here.read_pages(1)
    cli = cli_of(here)
    done = cli.run("pull")
    assert done.status == 0
    assert "Pull 2 (full) is complete: " in done.out
    found = here.sql("select id, status, pages from headshotpro.pulls order by id")
    assert [(row["id"], row["status"], row["pages"]) for row in found] == [(1, "complete", 2), (2, "complete", 2)]
    assert here.request_counts(LIST) == {200: 4}


def connections(here: Mirror) -> int:
    """How many connections to the mirror's database are open."""
    (row,) = here.sql("select count(*) from pg_stat_activity where datname = current_database()")
    return int(row["count"])


def test_a_pull_that_fails_ends_with_1_and_does_not_linger(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=5, settings={"headshotpro_api_key": "revoked"})
    # An open question would be asked in vain, again and again.
    here.sql("insert into headshotpro.refetch_requests (model_id, reason, due_at) values ('m', 'profile', now())")
    cli = cli_of(here)
    done = cli.run("pull")
    assert done.status == 1
    assert "Pull 1 (full) has failed: " in done.out
    assert done.err.splitlines()[-1] == "headshot-mirror: the upstream refused: 401 UNAUTHORIZED"
    assert here.refetch_requests()["m"]["attempts"] == 0


def test_a_pull_that_is_held_ends_with_1_and_says_why(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=5)
    here.pull()
    here.vendor.control("POST", "/organization", {"uid": "org_of_somebody_else"})
    cli = cli_of(here)
    done = cli.run("pull", "--json")
    assert (done.status, done.document["status"]) == (1, "held")
    last = done.err.splitlines()[-1]
    assert "org_of_somebody_else" in last
    number = done.document["id"]
    assert f"run `headshot-mirror pulls reject {number}`; or `headshot-mirror pulls release {number}`, which" in last
    listed = cli.run("pulls", "list", "--kind", "hot")
    assert listed.out == "No pulls.\n"
    assert listed.err.startswith(f"Pull {number} is held: put the right HEADSHOTPRO_API_KEY back")


def test_held_suspects_are_shown_with_the_commands_that_decide(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=0)
    ids = [model["id"] for model in here.create(20, status="active")]
    here.pull()
    here.vanish(*ids[:11])
    here.advance_vendor_clock()
    cli = cli_of(here)
    decision = (
        "`headshot-mirror pulls release 2` sends a GET for each model that it did not show; "
        "`headshot-mirror pulls reject 2` leaves them alone for a day"
    )
    done = cli.run("pull")
    assert (done.status, done.err.splitlines()[-1].endswith(f"none was tombstoned; {decision}")) == (1, True), done
    assert cli.run("pulls", "list").err == f"Pull 2 is held: {decision}.\n"


def test_a_pull_that_is_interrupted_says_who_goes_on(mirror: StartMirror, cli_of: CliOf) -> None:
    here = mirror(models=1_000, slow=3)
    cli = cli_of(here)
    process = cli.start("pull")
    assert eventually(lambda: here.sql("select id from headshotpro.pulls"))
    threading.Timer(0.3, process.terminate).start()
    done = cli.finish(process)
    assert done.status == 1
    assert re.fullmatch(r"headshot-mirror: stopped; the workers go on .*", done.err.splitlines()[-1])
    (row,) = here.sql("select status from headshotpro.pulls")
    assert row["status"] == "running"
