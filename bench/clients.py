"""Clients of the endpoint's bench as processes of their own: wrk as fast as it can, ours by a clock; what each cost."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

from service.parent_death import die_with_parent

if TYPE_CHECKING:
    from bench.request_file import RequestFile

CONNECTIONS = 64
SCRIPT = Path(__file__).with_name("deliveries.lua")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a client saw.

    Attributes:
        requests: that were answered.
        seconds: that it took.
        p50_ms: the median time of one.
        p99_ms: which one in a hundred exceeded.
        failed: that were not answered as they should be.
        client_seconds: of a core, that the client itself took.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    client_seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def unthrottled_client_name() -> str:
    """What `run_unthrottled` uses here."""
    return "wrk" if shutil.which("wrk") else "bench.paced (no wrk here: `apt install wrk`)"


def run_unthrottled(port: int, requests: RequestFile, seconds: float) -> Run:
    """Send over 64 connections, on each the next request when the last one is answered."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return run_at_rate(port, requests, 0, seconds)
    url = f"http://127.0.0.1:{port}/"
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", SCRIPT, url]
    return _run([wrk, *options, "--", requests.path, str(requests.size)])


def run_at_rate(port: int, requests: RequestFile, rate: float, seconds: float) -> Run:
    """Send so many a second over 64 connections, whatever is answered when."""
    options = [str(port), requests.path, str(requests.size), "--rate", str(rate), "--seconds", str(seconds)]
    return _run([sys.executable, "-m", "bench.paced", *options, "--connections", str(CONNECTIONS)])


def _run(command: list[str | Path]) -> Run:
    before = _cpu_of_children()
    done = subprocess.run(die_with_parent(command, SIGTERM), stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return Run(**told, client_seconds=_cpu_of_children() - before)


def _cpu_of_children() -> float:
    """Seconds of a core that children took which have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
