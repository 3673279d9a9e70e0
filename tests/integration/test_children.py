"""The children of `up` are restarted when they die, end when they are asked, and leave nothing when they will not."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from service.config import environment
from service.local.children import ManagedProcess, ProcessRestarter, stop_all
from tests.support.processes import eventually, processes_in

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Postgres

WILLING = "import time; print('willing', flush=True); time.sleep(600)"
# Ignores SIGTERM, and so does the process that it starts.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("stubborn", flush=True)
time.sleep(600)
"""


def child(folder: Path, code: str) -> ManagedProcess:
    # Processes are found by their working folder: the child goes there first.
    here = f"import os; os.chdir({str(folder)!r})\n"
    return ManagedProcess([sys.executable, "-c", here + code], environment(), folder / "log").boot()


def test_what_a_child_prints_is_in_its_log_from_its_own_start_on(folder: Path) -> None:
    first = child(folder, "print('first')")
    assert eventually(lambda: first.pid is None)
    second = child(folder, "print('second')")
    assert eventually(lambda: second.pid is None)
    assert first.log.read_text() == "first\nsecond\n"
    assert second.output() == b"second\n"


def test_children_end_when_they_are_asked(folder: Path) -> None:
    children = [child(folder, WILLING), child(folder, WILLING)]
    assert eventually(lambda: folder.joinpath("log").read_text().count("willing") == 2)
    stop_all(children, timeout=30)
    assert [each.pid for each in children] == [None, None]
    assert not processes_in(folder)


def test_child_that_does_not_exit_is_killed_with_its_children(folder: Path) -> None:
    stubborn = child(folder, STUBBORN)
    assert eventually(stubborn.output)
    assert len(processes_in(folder)) == 2
    stop_all([stubborn], timeout=0.2)
    assert eventually(lambda: not processes_in(folder)), processes_in(folder)


def test_a_dead_child_starts_again_after_a_pause(folder: Path) -> None:
    dying = child(folder, "print('words')")
    watch = ProcessRestarter("dying", dying, now=1000)
    assert eventually(lambda: dying.pid is None)
    assert watch.check(1000) == "dying ended and starts again in 1 s; the last line of its log: words"
    assert watch.check(1000.9) is None
    assert watch.check(1001) == "dying runs again"
    assert eventually(lambda: dying.output() == b"words\n"), "it did run"


def test_restart_pause_grows_with_each_exit_until_child_is_well(folder: Path) -> None:
    dying = child(folder, "")
    watch = ProcessRestarter("dying", dying, now=0)
    now, pauses = 0.0, []
    for _ in range(7):
        assert eventually(lambda: dying.pid is None)
        said = watch.check(now) or ""
        pauses.append(int(said.split("again in ")[1].split(" s")[0]))
        now += pauses[-1]
        watch.check(now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert eventually(lambda: dying.pid is None)
    assert "again in 1 s" in (watch.check(now + 61) or "")


def test_a_living_child_is_left_alone(folder: Path) -> None:
    living = child(folder, WILLING)
    before = living.pid
    watch = ProcessRestarter("living", living, now=0)
    assert [watch.check(now) for now in (1, 100, 1000)] == [None, None, None]
    assert living.pid == before
    stop_all([living], timeout=30)


def test_a_server_that_died_starts_again_on_its_port(own_postgres: Postgres) -> None:
    watch = ProcessRestarter("Postgres", own_postgres, now=0)
    before = own_postgres.url
    own_postgres.kill()
    assert "Postgres ended" in (watch.check(1) or "")
    assert watch.check(10) == "Postgres runs again"
    assert own_postgres.url == before
    assert own_postgres.pid


def test_ending_what_does_not_run_does_nothing(folder: Path) -> None:
    # Ending twice, or before the start, does nothing.
    never = ManagedProcess([sys.executable], environment(), folder / "log")
    stop_all([never, never], timeout=0)
    never.wait_or_kill(time.monotonic())
    assert never.pid is None
