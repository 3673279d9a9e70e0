"""An event that a signal handler sets while the main thread begins to wait for it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.system import ROOT

# An event for which the main thread begins to wait as often as it can, while a signal comes. With `Event.set` in the
# handler more than half of these waits never ended.
TRIALS = """
import signal, threading
{prepare}
for number in range(60):
    stop = threading.Event()
    {install}
    signal.setitimer(signal.ITIMER_REAL, 0.001 + number % 20 / 10_000)
    while not stop.is_set():
        stop.wait(0)
"""
OURS = TRIALS.format(
    prepare="from service.signal_handlers import stop_on_signals",
    install="stop_on_signals(stop); signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))",
)
# RQ's handler calls this method.
OF_RQ = TRIALS.format(
    prepare="from types import SimpleNamespace; from workers.rq_worker import Worker",
    install="worker = Worker.__new__(Worker); worker.runtime = SimpleNamespace(stop=stop)\n"
    "    worker._install_signal_handlers()\n"
    "    signal.signal(signal.SIGALRM, lambda *_: worker.handle_warm_shutdown_request())",
)


@pytest.mark.parametrize("program", [OURS, OF_RQ], ids=["ours", "of RQ"])
def test_signal_that_comes_as_a_wait_begins_ends_the_wait(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


# A worker's child does so each second while Redis is unavailable: RQ installs handlers of its own.
INSTALLED_AGAIN = """
import os, threading
from service.signal_handlers import stop_on_signals
def taken():
    return len(os.listdir("/proc/self/fd")), threading.active_count()
stop = threading.Event()
stop_on_signals(stop)
before = taken()
for _ in range(20):
    stop_on_signals(stop)
assert taken() == before, (taken(), before)
"""


def test_handlers_installed_again_take_no_more_files() -> None:
    # Its own process: what other tests left may be closed meanwhile.
    subprocess.run([sys.executable, "-c", INSTALLED_AGAIN], cwd=ROOT, check=True, timeout=60)


CONTAINER = ("--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c")
ITSELF = """
import signal
from service.signal_handlers import end_on_signals
end_on_signals()
signal.raise_signal({number})
print("goes on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_first_process_of_a_container(number: signal.Signals) -> None:
    unshare = shutil.which("unshare") or "false"
    ways = [(unshare, *CONTAINER), (unshare, "--map-root-user", *CONTAINER)]
    works = (way for way in ways if subprocess.run([*way, ""], capture_output=True, check=False).returncode == 0)
    way = next(works, None)
    if not way:
        pytest.skip("the kernel lets this user create no process namespace")
    program = ITSELF.format(number=int(number))
    done = subprocess.run([*way, program], cwd=ROOT, capture_output=True, text=True, check=False)
    line = f"headshot-mirror: stopped by {number.name}\n"
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", line)


FORCED = """
import signal, threading, time
from types import SimpleNamespace
from service import signal_handlers
from service.cli.progress import stop_on_signals
signal_handlers.EXIT_TIMEOUT_SECONDS = 0
stop_on_signals(SimpleNamespace(stop=threading.Event()), "stopped")
signal.raise_signal(signal.SIGTERM)
time.sleep(5)
"""


def test_command_that_cannot_write_its_line_is_ended_too() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", FORCED], cwd=ROOT, stderr=full, check=False)
    assert done.returncode == 1


def test_command_that_is_ended_after_the_timeout_logs_that() -> None:
    done = subprocess.run([sys.executable, "-c", FORCED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "headshot-mirror: stopped\n")
    assert "shutdown.forced" in done.stdout
