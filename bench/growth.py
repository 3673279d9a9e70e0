"""What pull, endpoint and rows cost, and how that grows with the organization: from 1,000 to 1,000,000 models.

`python -m bench.growth [--sizes 1000,10000,100000,1000000] [--events 5000]`. For each size a mirror of its own is
pulled twice; then so many events about its models go through the endpoint, and from there into rows. Memory is each
process's peak, the vendor's (`bench.vendor`) told apart. Prints its part of `RESULTS.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from bench.alternating import run
from bench.memory import SENDERS, send
from bench.meters import Cost, Meter
from bench.report import Report
from bench.vendor import vendor
from service.broker.client import connect_redis
from service.broker.inbox import Inbox
from service.broker.jobs import Job, JobQueue
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from tests.support.processes import eventually, processes_in
from tests.support.system import ROOT, System, rows

if TYPE_CHECKING:
    from tests.conftest import Sandbox

FIRST, AGAIN, ENDPOINT, ROWS = "first pull", "unchanged pull", "endpoint", "rows"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_MB = 400
# Models that the events are about: few enough to be asked for at once, from all over the table.
TOLD_OF = 2_000
# By what their command lines hold.
KINDS = {
    "bench.pull_sides": "pull",
    "headshot-mirror web": "web",
    "headshotpro-drain": "drain",
    "headshotpro-work": "work",
    "postgres": "Postgres",
    "valkey": "Redis",
    "redis": "Redis",
}


class Measurement(NamedTuple):
    """What one stretch of work took and cost.

    Attributes:
        seconds: it took.
        number: models or events it was for.
        requests: sent to the vendor.
        cost: to the servers.
        peaks: MB of the largest process of each kind.
    """

    seconds: float
    number: int
    requests: int
    cost: Cost
    peaks: dict[str, float]


class Peaks(AbstractContextManager["Peaks"]):
    """The largest resident size of each kind of process that works in some folders while the block runs, in MB."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.found: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for folder in self._folders:
                for pid, command in processes_in(folder).items():
                    kind = next((name for word, name in KINDS.items() if word in command), None)
                    if kind:
                        self.found[kind] = max(self.found.get(kind, 0.0), resident_mb(pid))


def resident_mb(pid: int) -> float:
    """A process's resident memory; of Postgres' processes each counts what it touched of the memory that all share."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


class BenchSetup:
    """Servers of one size of organization, and the work that is done on them."""

    def __init__(self, folder: Path, models: int, events: int, stack: ExitStack) -> None:
        self._folder = folder
        self._models = models
        self._events = events
        self._postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        self._valkey = stack.enter_context(Valkey.start(folder / "valkey"))
        self._client: Any = stack.enter_context(connect_redis(self._valkey.url, timeout=60))
        migrate(self._postgres.url)

    def pull(self, shop: Sandbox) -> Measurement:
        """A full pull."""
        servers = ["--database", self._postgres.url, "--redis", self._valkey.url]
        command = [sys.executable, "-m", "bench.pull_sides", "pull"]
        with self._peaks() as peaks, Meter(self._postgres.url, self._client) as meter:
            told = run([*command, "--url", shop.url, "--key", shop.api_key, *servers], _NullMeter(), ROOT)
        found = {**peaks.found, "pull": told["peak_mb"]}
        return Measurement(told["seconds"], told["models"], told["requests"], meter.cost, found)

    def webhooks_and_rows(self) -> dict[str, Measurement]:
        """Events through the endpoint, and then from the inbox into rows: nothing of either runs beside the other."""
        with self._system() as system:
            system.start("web")
            system.wait_for_web()
            ids = [row["id"] for row in rows(self._postgres.url, SOME_MODELS.format(TOLD_OF / self._models * 100))]
            endpoint = self._stretch(system, lambda: deliver(system.port, ids, self._events))
            system.start("worker")
            return {ENDPOINT: endpoint, ROWS: self._stretch(system, self._drain)}

    def _stretch(self, system: System, work: Any) -> Measurement:
        with self._peaks(system.folder) as peaks, Meter(self._postgres.url, self._client) as meter:
            began = time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            # Sessions tell what they did a second later at most.
            time.sleep(1.2)
        return Measurement(seconds, self._events, 0, meter.cost, peaks.found)

    def _drain(self) -> None:
        box = Inbox(self._client)
        JobQueue(self._client).enqueue(Job.DRAIN)
        assert eventually(lambda: box.depth().events == 0, 300)

    def _peaks(self, *folders: Path) -> Peaks:
        return Peaks(self._folder / "postgres", self._folder / "valkey", *folders)

    def _system(self) -> System:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        return System(folder, DATABASE_URL=self._postgres.url, REDIS_URL=self._valkey.url, LOG_LEVEL="warning")


class _NullMeter(AbstractContextManager["_NullMeter"]):
    """Stands in for a meter where one runs already."""

    def __exit__(self, *_error: object) -> None: ...


SOME_MODELS = "select id from headshotpro.models tablesample bernoulli (least({}, 100)) where status <> 'deleted'"


def deliver(port: int, ids: list[str], events: int) -> None:
    """Deliveries as fast as a few connections get rid of them."""
    sent = multiprocessing.Value("q", 0)
    share = events // SENDERS
    senders = [
        multiprocessing.Process(target=send, args=(port, ids, number, share, sent), daemon=True)
        for number in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
        assert sender.exitcode == 0


def measure(models: int, events: int) -> tuple[dict[str, Measurement], float]:
    """All stretches for one size, and the MB of the vendor."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        shop = stack.enter_context(vendor(models))
        stage = BenchSetup(folder, models, events, stack)
        _say(f"{models:,} models: first pull")
        found = {FIRST: stage.pull(shop)}
        _say(f"{models:,} models: unchanged pull")
        found[AGAIN] = stage.pull(shop)
        _say(f"{models:,} models: endpoint and rows")
        return {**found, **stage.webhooks_and_rows()}, resident_mb(shop.process.pid)


def report_stretch(report: Report, name: str, sizes: dict[int, dict[str, Measurement]]) -> None:
    """One kind of work, a line for each size."""
    kinds = list(dict.fromkeys(kind for found in sizes.values() for kind in found[name].peaks))
    lines = []
    for models, found in sizes.items():
        one, cost = found[name], found[name].cost
        each = one.seconds * 1e6 / one.number
        peaks = [f"{one.peaks.get(kind, 0):,.0f}" for kind in kinds]
        figures = [one.requests, cost.wal / 1e6, cost.wal / one.number, cost.dead, cost.commands, cost.reads]
        lines.append([f"{models:,}", f"{one.seconds:.2f}", f"{each:.0f}", *map(_figure, figures), *peaks])
    columns = ["models", "seconds", "µs each", "upstream requests", "WAL MB", "WAL bytes each", "dead tuples"]
    columns += ["Redis commands", "Redis round trips", *(f"{kind} peak MB" for kind in kinds)]
    report.table(f"{name[0].upper()}{name[1:]}:", columns, lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def report_goals(report: Report, sizes: dict[int, dict[str, Measurement]]) -> None:
    """What was to be reached: the largest size beside the one before."""
    *_, smaller, largest = sizes
    for name in (FIRST, AGAIN, ENDPOINT, ROWS):
        one, other = sizes[largest][name], sizes[smaller][name]
        grown = (one.seconds / one.number) / (other.seconds / other.number)
        report.at_most(f"{name}: time for each at {largest:,} ÷ at {smaller:,} models", grown, 1.3)
    for name in (FIRST, AGAIN):
        one = sizes[largest][name]
        report.at_most(f"{name}: requests for each 200 models at {largest:,}", one.requests * 200 / one.number, 1.06)
    peaks = {(kind, name): mb for name, one in sizes[largest].items() for kind, mb in one.peaks.items()}
    (kind, name), most = max(peaks.items(), key=lambda pair: pair[1])
    report.at_most(f"MB of the largest process at {largest:,} models ({kind}, {name})", most, MOST_MB)


def _say(words: str) -> None:
    print(f"growth: {words}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of models, with commas between")
    parser.add_argument("--events", type=int, default=5_000, help="that go through the endpoint for each size")
    given = parser.parse_args()
    report = Report("Cost, and how it grows", "python -m bench.growth")
    sizes, vendors = {}, []
    for models in map(int, given.sizes.split(",")):
        sizes[models], megabytes = measure(models, given.events)
        vendors.append(f"{megabytes:,.0f} MB at {models:,}")
    for name in (FIRST, AGAIN, ENDPOINT, ROWS):
        report_stretch(report, name, sizes)
    report.note(
        f"The vendor of this bench, which keeps every page in memory, is left out: {', '.join(vendors)} models."
    )
    report.note("Of Postgres' processes each counts what it touched of the 128 MB that all share.")
    if len(sizes) > 1:
        report_goals(report, sizes)
    print(report)


if __name__ == "__main__":
    main()
