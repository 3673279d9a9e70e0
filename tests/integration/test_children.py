"""The children of `up` end when they are asked, and leave nothing when they will not."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from service.config import environment
from service.local.children import ManagedProcess, stop_all
from tests.support.processes import eventually, processes_in

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("code", "ending"),
    [("raise SystemExit(3)", "exit status 3"), ("os.kill(os.getpid(), 9)", "killed by signal 9")],
)
def test_how_a_child_ended_is_returned_and_in_its_log(folder: Path, code: str, ending: str) -> None:
    running = child(folder, WILLING)
    assert running.note_end() == ""
    stop_all([running], timeout=30)
    ended = child(folder, code)
    assert eventually(lambda: ended.pid is None)
    assert ended.note_end() == ending
    assert ended.output().decode() == f"headshot-mirror up: this process has ended: {ending}\n"


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


def test_ending_what_does_not_run_does_nothing(folder: Path) -> None:
    # Ending twice, or before the start, does nothing.
    never = ManagedProcess([sys.executable], environment(), folder / "log")
    stop_all([never, never], timeout=0)
    never.wait_or_kill(time.monotonic())
    assert never.pid is None
