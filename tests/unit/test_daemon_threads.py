"""Threads that are used again."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from service import daemon_threads
from service.daemon_threads import DaemonThreads
from tests.support.processes import eventually

if TYPE_CHECKING:
    import pytest


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in (name, f"{name}, idle")]


def test_idle_thread_runs_the_next_task() -> None:
    threads, ran = DaemonThreads("again"), queue.SimpleQueue[int]()
    threads.run(lambda: ran.put(threading.get_ident()))
    first = ran.get(timeout=5)
    assert eventually(lambda: _runs_in(threads) == first, 5)
    assert len(named("again")) == 1


def _runs_in(threads: DaemonThreads) -> int:
    ran = queue.SimpleQueue[int]()
    threads.run(lambda: ran.put(threading.get_ident()))
    return ran.get(timeout=5)


def test_task_begins_at_once_while_others_hang() -> None:
    threads, release, ran = DaemonThreads("hang"), threading.Event(), threading.Event()
    for _ in range(5):
        threads.run(lambda: _ignore(release.wait(5)))
    threads.run(ran.set)
    assert ran.wait(5)
    assert all(thread.daemon for thread in named("hang"))
    release.set()


def _ignore(_result: Any) -> None:
    """A task returns nothing."""


def test_thread_that_is_idle_for_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_threads, "IDLE_SECONDS", 0.01)
    threads = DaemonThreads("ends")
    threads.run(lambda: None)
    assert eventually(lambda: not named("ends"), 5)
    ran = threading.Event()
    threads.run(ran.set)
    assert ran.wait(5)


def test_child_after_a_fork_starts_threads_of_its_own() -> None:
    threads = DaemonThreads("forked")
    assert _runs_in(threads)
    child = os.fork()
    if not child:
        ran = threading.Event()
        threads.run(ran.set)
        os._exit(0 if ran.wait(5) else 1)
    assert os.waitpid(child, 0)[1] == 0
