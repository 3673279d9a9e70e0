"""An event that a signal handler sets while the main thread begins to wait for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.support.system import ROOT
from workers.shutdown import stop_on_signals

# It begins to wait as often as it can. With `Event.set` in the handler more than half of these never ended.
WAITING = """
import threading
from workers.shutdown import stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
print("waits", flush=True)
while not stop.is_set():
    stop.wait(0)
"""


def test_signal_that_comes_as_a_wait_begins_ends_the_process() -> None:
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, cwd=ROOT)
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(number / 1000)
            process.terminate()
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_handlers_installed_again_take_no_more_files() -> None:
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop_on_signals(stop)
        files, threads = open_files(), threading.active_count()
        # A worker's child does so each second while Redis is unavailable: RQ installs handlers of its own.
        for _ in range(20):
            stop_on_signals(stop)
        assert (open_files(), threading.active_count()) == (files, threads)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
