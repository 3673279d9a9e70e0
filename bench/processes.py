"""The cost of one process of each kind, for `docs/operations/scaling.md`: `python -m bench.processes`.

Two web processes, two workers and two clocks on this machine: at rest, while they pull a list for the first time, and
while deliveries come as fast as they are taken. Memory is PSS, so that what processes share counts once.
"""

import os
import time
from collections import defaultdict
from contextlib import ExitStack
from statistics import fmean
from typing import NamedTuple

import click
import psutil

from bench.deliveries import Organization
from bench.load import send
from bench.report import Report
from bench.setup import Servers, cpu_seconds, kind_of, sandbox, servers, value
from service.broker.inbox import Inbox
from tests.support.processes import eventually, processes_in
from tests.support.system import System

COMPLETE = "select requests from headshotpro.pulls where kind = 'full' and status = 'complete'"
COLUMNS = ["process", "MB", "at rest, of a core", "ms of a core for 1,000 events, all", "to Postgres", "to Redis"]
WAITING = 2_000


class Sample(NamedTuple):
    """One process at one moment: CPU seconds so far, MB, and the remote ports of its connections."""

    kind: str
    cpu: float
    pss: float
    ports: list[int]


def sample(system: System) -> dict[int, Sample]:
    """Every process of the product by its id."""
    found = {}
    commands = processes_in(system.folder)
    parents = {psutil.Process(pid).ppid() for pid in commands}
    for pid, command in commands.items():
        if kind := kind_of(command):
            ports = [one.raddr.port for one in psutil.Process(pid).net_connections() if one.raddr]
            kind = "web: parent" if kind == "web" and pid in parents else kind
            found[pid] = Sample(kind, cpu_seconds(pid), pss_mb(pid), ports)
    return found


def pss_mb(pid: int) -> float:
    return psutil.Process(pid).memory_full_info().pss / 2**20


def used(before: dict[int, Sample], after: dict[int, Sample]) -> dict[str, float]:
    """Seconds of a core by kind, of all processes of it together."""
    found = defaultdict[str, float](float)
    for pid, now in after.items():
        found[now.kind] += now.cpu - (before[pid].cpu if pid in before else 0.0)
    return found


def under_load(report: Report, place: Servers, system: System, events: int, rest: float) -> None:
    """The processes at rest, and while deliveries come."""
    time.sleep(5)
    still = sample(system)
    time.sleep(rest)
    rested = sample(system)
    sent = send(system.port, Organization(5_000).stream(events))
    began = time.monotonic()
    assert eventually(lambda: Inbox(place.redis).depth().events == 0, 300), system.logs()
    late = time.monotonic() - began
    loaded, idle, lines = sample(system), used(still, rested), []
    for kind, seconds in sorted(used(rested, loaded).items()):
        own = [one for one in loaded.values() if one.kind == kind]
        # Less what they would have used at rest.
        busy = max(0.0, seconds - idle[kind] / rest * (sent.seconds + late)) * 1e6 / events
        figures = [f"{fmean(one.pss for one in own):.0f}", f"{idle[kind] / rest / len(own):.1%}", f"{busy:.0f}"]
        connections = (max(one.ports.count(port) for one in own) for port in (place.postgres.port, place.valkey.port))
        lines.append([kind, *figures, *connections])
    report.table(f"{os.cpu_count()} processors:", COLUMNS, lines)
    report.note(f"{events} deliveries took {sent.seconds:.1f} s; the last was applied {late:.1f} s later.")


@click.command()
@click.option("--events", default=20_000)
@click.option("--models", default=10_000, help="Models in the vendor's list.")
@click.option("--rest", default=30.0, help="Seconds at rest.")
def main(events: int, models: int, rest: float) -> None:
    report = Report("Processes", "python -m bench.processes")
    with servers(sync="everysec") as place, sandbox(models) as upstream, ExitStack() as stack:
        settings = {"HEADSHOTPRO_API_URL": upstream.url, "HEADSHOTPRO_API_KEY": upstream.api_key, "DETAIL_BUDGET": "0"}
        system = place.started(stack, "web", "worker", "worker", "clock", "clock", **settings)
        assert eventually(lambda: value(place.postgres.url, COMPLETE), 120), system.logs()
        pulled = used({}, sample(system))["worker: child for other work"]
        requests = value(place.postgres.url, COMPLETE)
        under_load(report, place, system, events, rest)
        report.note(f"First pull of {models} models: {requests} requests, {pulled:.1f} s of a core with the starts.")
        held = place.redis.info("memory")["used_memory"]
        for body in Organization(WAITING).stream(WAITING):
            delivery = {"body": body, "signed_at": 1_700_000_000, "received_at": time.time(), "delivery_id": "0" * 16}
            place.redis.xadd("headshotpro:bench", delivery)
        each = place.redis.memory_usage("headshotpro:bench", samples=0) / WAITING
        report.note(f"Redis holds {held / 1e6:.1f} MB, and {each:.0f} bytes more for each event that waits.")
        backends = [pid for pid, text in processes_in(place.postgres.folder.path).items() if "postgres: headsh" in text]
        report.note(f"Postgres holds {fmean(map(pss_mb, backends)):.0f} MB for each of {len(backends)} connections.")
    print(report)


if __name__ == "__main__":
    main()
