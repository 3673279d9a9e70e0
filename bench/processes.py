"""What one process of each kind costs: `python -m bench.processes`, for the arithmetic of `docs/operations/scaling.md`.

One deployment of two web processes, two workers and two clocks on this machine: at rest, while it pulls a list for the
first time, and while deliveries come in as fast as they are taken. Memory is the proportional share (PSS): what
processes share counts once for all of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import redis

from bench.memory import send
from service.broker.inbox import Delivery
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support.processes import eventually, processes_in
from tests.support.system import System, new_id, rows
from tests.support.webhooks import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.sharedctypes import Synchronized

SENDERS = 4
MODELS = 5_000
WORK = "worker: child for other work"
# A word of the command line, and what people call the process.
KINDS = {
    "headshotpro-drain": "worker: child for events",
    "headshotpro-work": WORK,
    "workers clock": "clock",
    "headshot-mirror clock": "clock",
    "headshot-mirror web": "web: one of WEB_CONCURRENCY",
    "workers worker": "worker: parent",
    "headshot-mirror worker": "worker: parent",
}
MASTER = "web: parent"
COMPLETE = "select requests from headshotpro.pulls where kind = 'full' and status = 'complete'"
APPLIED = "select count(*) as number from headshotpro.webhook_events"
TICK = os.sysconf("SC_CLK_TCK")


class ProcessSample(NamedTuple):
    """One process at one moment.

    Attributes:
        kind: what people call it.
        cpu: seconds that it has used.
        memory: MB.
        postgres: connections to Postgres.
        redis: connections to Redis.
    """

    kind: str
    cpu: float
    memory: float
    postgres: int
    redis: int


def sample_processes(folder: Path, ports: tuple[int, int]) -> dict[int, ProcessSample]:
    """Every process of the deployment, by its id."""
    found: dict[int, ProcessSample] = {}
    masters: set[int] = set()
    commands = processes_in(folder)
    for pid, command in commands.items():
        kind = next((name for word, name in KINDS.items() if word in command), None)
        if kind is None:
            continue
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if "headshot-mirror web" in command and int(fields[1]) in commands:
            masters.add(int(fields[1]))
        cpu = (int(fields[11]) + int(fields[12])) / TICK
        peers = connections(pid)
        found[pid] = ProcessSample(kind, cpu, share(pid), peers[ports[0]], peers[ports[1]])
    return {pid: seen._replace(kind=MASTER) if pid in masters else seen for pid, seen in found.items()}


def share(pid: int) -> float:
    """Memory of a process in MB."""
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) / 1024


def connections(pid: int) -> Counter[int]:
    """How many TCP connections a process has to each port."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        own.add(os.readlink(descriptor).removeprefix("socket:[").rstrip("]"))  # noqa: PTH115 - no path
    lines = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return Counter(int(words[2].split(":")[1], 16) for words in lines if words[3] == "01" and words[9] in own)


def cpu_seconds_by_kind(before: dict[int, ProcessSample], after: dict[int, ProcessSample]) -> dict[str, float]:
    """Seconds of processor time by kind, of all processes of it together."""
    used: defaultdict[str, float] = defaultdict(float)
    for pid, seen in after.items():
        used[seen.kind] += seen.cpu - (before[pid].cpu if pid in before else 0.0)
    return used


def load(port: int, events: int) -> float:
    """Send events over a few connections: seconds until all were taken."""
    models = [new_id() for _ in range(MODELS)]
    sent: Synchronized[int] = multiprocessing.Value("q", 0)
    senders = [
        multiprocessing.Process(target=send, args=(port, models, number, events // SENDERS, sent), daemon=True)
        for number in range(SENDERS)
    ]
    began = time.monotonic()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
        assert sender.exitcode == 0
    return time.monotonic() - began


def main() -> None:
    """Run it, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=10_000, help="in the vendor's list")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds at rest")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    try:
        run(folder, given)
    finally:
        shutil.rmtree(folder)


def run(folder: Path, given: argparse.Namespace) -> None:
    """Measure, phase by phase."""
    with deployed(folder, given.models) as (system, postgres, valkey):
        ports = (postgres.port, valkey.port)
        assert eventually(lambda: rows(postgres.url, COMPLETE), 120), system.logs()
        work = cpu_seconds_by_kind({}, sample_processes(system.folder, ports))[WORK]
        (pull,) = rows(postgres.url, COMPLETE)
        time.sleep(5)
        still = sample_processes(system.folder, ports)
        time.sleep(given.rest)
        rested = sample_processes(system.folder, ports)
        seconds = load(system.port, given.events)
        began = time.monotonic()
        assert eventually(lambda: rows(postgres.url, APPLIED)[0]["number"] >= given.events, 300), system.logs()
        late = time.monotonic() - began
        loaded = sample_processes(system.folder, ports)
        idle = {kind: used / given.rest for kind, used in cpu_seconds_by_kind(still, rested).items()}
        # Less what they would have used at rest.
        busy = {
            kind: used - idle[kind] * (seconds + late) for kind, used in cpu_seconds_by_kind(rested, loaded).items()
        }
        print(table(loaded, idle, {kind: used * 1e6 / given.events for kind, used in busy.items()}))
        with redis.Redis.from_url(valkey.url) as client:
            memory = client.info("memory")["used_memory"] / 1_000_000
            print(f"\n{given.events} deliveries in {seconds:.1f} s, the last was applied {late:.1f} s later.")
            print(f"The first pull of {given.models} models: {pull['requests']} requests,")
            print(f"{work:.1f} s of processor in the children for other work, their starts included.")
            print(f"Redis holds {memory:.1f} MB, and {waiting_event(client):.0f} bytes more for each event that waits.")
            print(backends(postgres))
            print(f"{os.cpu_count()} processors.")


@contextmanager
def deployed(folder: Path, models: int) -> Iterator[tuple[System, Postgres, Valkey]]:
    """A deployment of two of each, and a vendor in which nothing happens by itself."""
    (folder / "processes").mkdir()
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey", sync="everysec"))
        migrate(postgres.url)
        options = ["--port", "0", "--models", str(models), "--quiet", "--rate", "0"]
        command = die_with_parent([sys.executable, "-m", "service.local.sandbox", *options], SIGTERM)
        vendor = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(vendor.terminate)
        assert vendor.stdout is not None
        told = json.loads(vendor.stdout.readline())
        settings = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "HEADSHOTPRO_API_URL": told["url"],
            "HEADSHOTPRO_API_KEY": told["api_key"],
        }
        system = stack.enter_context(
            System(folder / "processes", WEB_CONCURRENCY="2", DETAIL_BUDGET="0", LOG_LEVEL="warning", **settings)
        )
        for role in ("web", "worker", "worker", "clock", "clock"):
            system.start(role)
        assert eventually(lambda: system.get("/livez").status == 200, 120), system.logs()
        yield system, postgres, valkey


def table(seen: dict[int, ProcessSample], idle: dict[str, float], busy: dict[str, float]) -> str:
    """A line for each kind of process: what one of it holds and uses at rest, and what all of it use under load."""
    lines = [
        "| process | MB | at rest, % of a processor | ms of processor for 1,000 events | to Postgres | to Redis |",
        "|---|---|---|---|---|---|",
    ]
    for kind in sorted({one.kind for one in seen.values()}):
        own = [one for one in seen.values() if one.kind == kind]
        postgres, to_redis = max(one.postgres for one in own), max(one.redis for one in own)
        lines.append(
            f"| {kind} | {fmean(one.memory for one in own):.0f} | {idle[kind] / len(own):.1%} | "
            f"{max(0.0, busy[kind]):.0f} | {postgres} | {to_redis} |"
        )
    return "\n".join(lines)


def backends(postgres: Postgres) -> str:
    """What connections cost Postgres."""
    commands = processes_in(postgres.folder.path).items()
    held = [share(pid) for pid, command in commands if command.startswith("postgres: headshotpro")]
    return f"Postgres holds {fmean(held):.0f} MB for each of {len(held)} connections."


def waiting_event(client: redis.Redis) -> float:
    """Bytes that Redis needs for an event as the vendor sends it, in a stream beside the inbox."""
    number = 2_000
    body = json.dumps(WHOLE, ensure_ascii=False).encode()
    for _ in range(number):
        taken = Delivery.arrived(body, 1_700_000_000, datetime.now(UTC))
        client.xadd("headshotpro:bench", {name: str(value) for name, value in taken._asdict().items()} | {"body": body})
    used = client.memory_usage("headshotpro:bench", samples=0)
    client.delete("headshotpro:bench")
    return float(used or 0) / number


if __name__ == "__main__":
    main()
