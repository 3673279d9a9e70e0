"""Threads that are used again, and that keep no process alive.

A thread for each request costs more than the request's signature. `concurrent.futures` waits at exit for each of its
threads, also for one that hangs in the resolution of a name; these are daemons.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A thread that was idle for this long ends.
IDLE_SECONDS = 10.0


class DaemonThreads:
    """Runs each task at once: in an idle thread, or in a new one. Safe to share between threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []
        self._turn = threading.Lock()

    def run(self, task: Callable[[], None]) -> None:
        """Begin a task, which handles its own errors."""
        if self._process != os.getpid():
            # After a fork only the thread that forked exists.
            self._begin()
        with self._turn:
            if self._idle:
                # The one that became idle last, so that the others can end.
                self._idle.pop().put(task)
                return
        tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        tasks.put(task)
        threading.Thread(target=self._work, args=(tasks,), name=self._name, daemon=True).start()

    def _work(self, tasks: queue.SimpleQueue[Callable[[], None]]) -> None:
        thread = threading.current_thread()
        while True:
            try:
                task = tasks.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._turn:
                    if tasks in self._idle:
                        self._idle.remove(tasks)
                        return
                # It was just taken from the list: its task is there, or about to be.
                continue
            thread.name = self._name
            task()
            # In a list of threads one that hangs differs from one that waits for work.
            thread.name = f"{self._name}, idle"
            # An idle thread must not keep alive the objects that its last task held.
            del task
            with self._turn:
                self._idle.append(tasks)
