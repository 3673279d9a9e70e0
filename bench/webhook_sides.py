"""The sides of the endpoint's bench: servers that were started, the load that a round puts on each, what that cost."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.clients import Run, run_at_rate, run_unthrottled
from bench.request_file import write_requests
from service.broker.client import connect_redis
from service.broker.inbox import STREAM
from tests.support.processes import processes_in
from tests.support.system import event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Valkey
    from tests.support.system import System

HANGING = 200
# Requests a second that are made for the first run; later ones go by what was seen.
FIRST_GUESS = 8_000
TICKS = os.sysconf("SC_CLK_TCK")
BARE = [sys.executable, "-m", "gunicorn", "-c", "python:service.web.gunicorn_conf", "bench.bare:create_app()"]


class Usage(NamedTuple):
    """What was used up so far.

    Attributes:
        web: seconds of a core in the web processes.
        redis: seconds of a core in Redis.
        round_trips: how often Redis read something from a client.
        commands: how many commands Redis ran.
    """

    web: float
    redis: float
    round_trips: float
    commands: float

    def since(self, before: Usage) -> Usage:
        """What was used up between two looks."""
        return Usage(*(one - other for one, other in zip(self, before, strict=True)))


class Side:
    """One server and what it showed.

    Args:
        system: where its web process runs.
        valkey: its Redis; None for the floor, which needs none.
    """

    def __init__(self, system: System, valkey: Valkey | None = None) -> None:
        self.system = system
        self.runs: list[Run] = []
        self.usages: list[Usage] = []
        self._valkey = valkey
        self._rate = float(FIRST_GUESS)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self._valkey:
            self.system.start("web")
        else:
            self.system.run("bare", BARE)
        self.system.wait_for_web()

    def burst(self, seconds: float) -> float:
        """Deliveries a second, as many as it takes."""
        requests = write_requests(self.system.folder / "requests", int(seconds * 1.5 * self._rate) + 1000)
        before = self._usage()
        run = run_unthrottled(self.system.port, requests, seconds)
        self.usages.append(self._usage().since(before))
        self._check(run)
        self.runs.append(run)
        self._rate = max(self._rate, run.rate)
        return run.rate

    def burst_among_hanging(self, seconds: float) -> float:
        """The same while two hundred connections hang in mid-body, for less than the time that they are given."""
        requests = write_requests(self.system.folder / "hanging", HANGING)
        with ExitStack() as stack, requests.path.open("rb") as file:
            for _ in range(HANGING):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", self.system.port)))
                client.sendall(file.read(requests.size)[: requests.body_at + 20])
                client.setblocking(False)
                stack.callback(_assert_unanswered, client)
            # Until all of them were accepted.
            time.sleep(0.5)
            return self.burst(seconds)

    def paced(self, rate: float, seconds: float) -> Run:
        """So many a second, whether it keeps up or not."""
        requests = write_requests(self.system.folder / "requests", int(seconds * 1.3 * rate) + 1000)
        run = run_at_rate(self.system.port, requests, rate, seconds)
        self._check(run)
        return run

    def one_by_one(self, count: int) -> Usage:
        """What deliveries use up that come one after another."""
        before = self._usage()
        for _ in range(count):
            assert self.system.deliver(event_body(new_id())).status == 202, self.system.logs()
        return self._usage().since(before)

    def peak_megabytes(self) -> int:
        """The most memory that any of its web processes ever had."""
        found = [Path(f"/proc/{pid}/status").read_text() for pid in processes_in(self.system.folder)]
        return max(int(text.split("VmHWM:")[1].split()[0]) // 1024 for text in found)

    def median_of(self, figure: str) -> float:
        """The median of a figure over its runs."""
        return median(float(getattr(run, figure)) for run in self.runs)

    def each(self, figure: str) -> float:
        """The median of what a request used up; times in ms."""
        per_run = [getattr(usage, figure) / run.requests for usage, run in zip(self.usages, self.runs, strict=True)]
        return median(per_run) * (1000 if figure in ("web", "redis") else 1)

    def client_share(self) -> float:
        """The median share of the machine that the client itself took."""
        return median(run.client_seconds / run.seconds / (os.cpu_count() or 1) for run in self.runs)

    def forget(self) -> None:
        """Leave the runs so far out."""
        self.runs, self.usages = [], []

    def _check(self, run: Run) -> None:
        """Every answer was a 202, and every 202 is an event that is safe."""
        assert not run.failed, f"{run.failed} of {run.requests} failed:\n{self.system.logs()}"
        if self._valkey:
            with connect_redis(self._valkey.url) as client:
                kept: Any = client.xlen(STREAM)
                assert kept >= run.requests, (kept, run)
                # The next run finds the inbox empty.
                client.delete(STREAM)

    def _usage(self) -> Usage:
        web = _cpu_seconds(self.system.folder)
        if not self._valkey:
            return Usage(web, 0, 0, 0)
        with connect_redis(self._valkey.url) as client:
            stats: Any = client.info("stats")
        redis = _cpu_seconds(self._valkey.folder.path)
        return Usage(web, redis, stats["total_reads_processed"], stats["total_commands_processed"])


def _cpu_seconds(folder: Path) -> float:
    """Seconds of a core that the processes of a folder took so far."""
    total = 0
    for pid in processes_in(folder):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # utime and stime, see proc_pid_stat(5).
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


@contextmanager
def silent_listener() -> Iterator[socket.socket]:
    """A listening socket in the place of the upstream: who asks it anything waits in its queue."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.setblocking(False)
        yield listener


def callers(listener: socket.socket) -> int:
    """How many connections came in."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def _assert_unanswered(client: socket.socket) -> None:
    try:
        answer = client.recv(100)
    except BlockingIOError:
        return
    raise AssertionError(f"one that should have hung was answered: {answer!r}")
