"""Event to row: how long from POST to committed row at half load, and how fast one worker empties a full inbox.

`python -m bench.rows [--events 40000] [--rounds 3] [--only rate|latency]`. A floor and two peers do the same
beside the worker; a peer that is not installed (`make bench-peers`) is said to be missing. Prints its part of
`RESULTS.md`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from bench import half_load, one_job
from bench.alternating import run
from bench.deliveries import Organization, batches
from bench.measure import Spread, alternate, ratio
from bench.meters import Cost, Meter, count_statements
from bench.report import Report
from service.broker.client import connect_redis
from service.broker.inbox import STREAM, Inbox
from service.broker.jobs import Job, JobQueue, rq_queue
from service.config import environment
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support.processes import processes_in
from tests.support.system import ROOT, System, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = ROOT / ".bench"
STRIPE = Path(__file__).parent / "peers" / "stripe.cjs"
IN_FLIGHT = 64
WORKER, FLOOR, ONE_JOB, ENGINE = "one worker", "psycopg floor", "one RQ job an event", "stripe-sync-engine"


class BenchSetup:
    """Servers, the stream, and the sides that play on them.

    Attributes:
        costs: what each side cost in its last turn, and for how many events.
        peaks: MB of memory that each side's process took at most.
        requested: refetch requests that the worker's last turn left.
    """

    def __init__(self, folder: Path, postgres: Postgres, valkey: Valkey, given: argparse.Namespace) -> None:
        self._folder = folder
        self._postgres = postgres
        self._valkey = valkey
        self._given = given
        self._client: Any = connect_redis(valkey.url, timeout=60)
        self._organization = Organization(given.models)
        self._bodies = self._organization.stream(given.events)
        self._file = folder / "bodies"
        self._file.write_bytes(b"\n".join(self._bodies))
        self.costs: dict[str, tuple[Cost, int]] = {}
        self.peaks: dict[str, float] = {}
        self.requested = 0

    def worker(self) -> float:
        """Events a second that `headshot-mirror worker` takes out of a full inbox."""
        self._begin(WORKER)
        self._fill_inbox()
        box = Inbox(self._client)
        with self._system() as system, self._meter() as meter:
            started = system.start("worker")
            JobQueue(self._client).enqueue(Job.DRAIN)
            rate = _drain_rate(lambda: box.depth().events, meter, commands=3)
            self.peaks[WORKER] = _peak_mb(system.folder, "headshotpro-drain")
            # Counts of sessions that have ended are complete.
            started.stop()
        self.costs[WORKER] = meter.cost, len(self._bodies)
        self.requested = rows(self._postgres.url, "select count(*) as number from headshotpro.refetch_requests")[0][
            "number"
        ]
        return rate

    def floor(self) -> float:
        """Events a second of the psycopg script."""
        self._begin(FLOOR)
        command = [sys.executable, "-m", "bench.floor", self._postgres.url, self._file]
        return self._run_side(FLOOR, command, self._meter(), len(self._bodies))

    def one_job(self) -> float:
        """Events a second of one RQ job for each."""
        self._begin(ONE_JOB)
        queue = rq_queue(self._client, one_job.QUEUE)
        bodies = self._bodies[: self._given.jobs]
        for body in bodies:
            queue.enqueue(one_job.JOB, body.decode())
        command = die_with_parent([sys.executable, "-m", "bench.one_job"], SIGTERM)
        with self._meter() as meter:
            worker = subprocess.Popen(command, cwd=ROOT, env=environment(**self._system().settings))
            rate = _drain_rate(lambda: queue.count, meter, commands=1)
            self.peaks[ONE_JOB] = _peak_mb_of(worker.pid)
            worker.terminate()
            worker.wait(15)
        self.costs[ONE_JOB] = meter.cost, len(bodies)
        return rate

    def engine(self) -> float:
        """Events a second of stripe-sync-engine, 64 in flight."""
        self._begin(ENGINE)
        node = shutil.which("node") or "node"
        given = [self._given.webhooks, self._given.models, IN_FLIGHT, IN_FLIGHT]
        command = [node, STRIPE, PEERS, self._postgres.url, *map(str, given)]
        return self._run_side(ENGINE, command, self._meter(), self._given.webhooks)

    def _begin(self, side: str) -> None:
        print(f"rows: {side}", file=sys.stderr, flush=True)
        self._client.flushall()
        self._organization.fill(self._postgres.url)

    def _run_side(self, side: str, command: list[Any], meter: Meter, events: int) -> float:
        told = run(command, meter, ROOT)
        self.costs[side], self.peaks[side] = (meter.cost, events), told["peak_mb"]
        return float(told["rate"])

    def _meter(self) -> Meter:
        return Meter(self._postgres.url, self._client)

    def _system(self) -> System:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        return System(folder, DATABASE_URL=self._postgres.url, REDIS_URL=self._valkey.url)

    def _fill_inbox(self) -> None:
        """What the endpoint writes, many at once."""
        now = time.time()
        for begin, batch in enumerate(batches(self._bodies, 1000)):
            with self._client.pipeline(transaction=False) as pipeline:
                for place, body in enumerate(batch):
                    told = {"body": body, "signed_at": int(now), "received_at": now}
                    pipeline.xadd(STREAM, {**told, "delivery_id": f"{begin:08x}{place:08x}"})
                pipeline.execute()


def _drain_rate(depth: Callable[[], int], meter: Meter, commands: int, seconds: float = 300) -> float:
    """How many a second go out of something full: from the first that are gone to the last.

    Args:
        depth: how many are left.
        meter: what is measured beside; it leaves out what the looks at the depth cost.
        commands: that each look gives to Redis, all in one round trip.
        seconds: until it has to be empty.
    """

    def look() -> int:
        time.sleep(0.01)
        meter.exclude(commands)
        assert time.monotonic() < deadline, "not empty in time"
        return depth()

    deadline = time.monotonic() + seconds
    full = look()
    while (left := look()) == full:
        pass
    began = time.perf_counter()
    while look() > 0:
        pass
    return left / (time.perf_counter() - began)


def _peak_mb(folder: Path, word: str) -> float:
    (pid,) = [pid for pid, command in processes_in(folder).items() if word in command]
    return _peak_mb_of(pid)


def _peak_mb_of(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def rate(stage: BenchSetup, report: Report, rounds: int) -> None:
    """Measure the sides in turn, and report."""
    sides = {WORKER: stage.worker, FLOOR: stage.floor, ONE_JOB: stage.one_job}
    missing = _missing_engine()
    if not missing:
        sides[ENGINE] = stage.engine
    taken = alternate(sides, rounds)
    report.table(
        "Events a second out of a full inbox, durable Postgres (fsync on, synchronous_commit on), appendfsync always:",
        ["side", "events a second", "the worker does so many times that"],
        [[side, Spread.of(rates), ratio(taken, WORKER, side)] for side, rates in taken.items()],
    )
    _report_costs(stage, report)
    if missing:
        report.note(missing)
    report.at_least("one worker ÷ psycopg floor", ratio(taken, WORKER, FLOOR), 0.6)
    report.at_least("one worker ÷ one RQ job an event", ratio(taken, WORKER, ONE_JOB), 60)
    if not missing:
        report.at_least("one worker ÷ stripe-sync-engine", ratio(taken, WORKER, ENGINE), 3)


def _report_costs(stage: BenchSetup, report: Report) -> None:
    lines = []
    for side, (cost, events) in stage.costs.items():
        each = [None if value is None else f"{value * 1000 / events:,.0f}" for value in cost]
        lines.append([side, *(value or "not counted" for value in each), f"{stage.peaks[side]:.0f}"])
    report.table(
        "Cost of 1,000 events, and the peak memory of the process that applies them:",
        ["side", "WAL bytes", "dead tuples", "statements", "Redis commands", "Redis reads", "MB"],
        lines,
    )
    events = stage.costs[WORKER][1]
    report.note(
        f"Upstream requests: none to apply events. They left {stage.requested * 1000 / events:.0f} questions for 1,000 "
        "events: new models without a profile, which list pages answer many at once, and `photos_ready`, a GET each."
    )


def _missing_engine() -> str:
    """Why the peer cannot take part; empty where it can."""
    if not shutil.which("node"):
        return "Missing: stripe-sync-engine (there is no `node`)."
    if not (PEERS / "node_modules/@supabase/stripe-sync-engine").is_dir():
        return "Missing: stripe-sync-engine (`make bench-peers` installs it)."
    return ""


@contextmanager
def _servers() -> Iterator[tuple[Path, Postgres, Valkey]]:
    """A folder, and servers in it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey"))
        migrate(postgres.url)
        yield folder, postgres, valkey


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.rows", description=__doc__)
    parser.add_argument("--events", type=int, default=40_000, help="deliveries in the full inbox")
    parser.add_argument("--models", type=int, default=20_000, help="models that are known before")
    parser.add_argument("--jobs", type=int, default=1_000, help="events of the side with one job for each")
    parser.add_argument("--webhooks", type=int, default=10_000, help="events of stripe-sync-engine")
    parser.add_argument("--rounds", type=int, default=3, help="that count; one to warm up comes before")
    parser.add_argument("--seconds", type=float, default=30, help="at half load")
    parser.add_argument("--only", choices=["rate", "latency"])
    given = parser.parse_args()
    report = Report("Event to row", "python -m bench.rows")
    if given.only != "latency":
        with _servers() as (folder, postgres, valkey):
            count_statements(postgres)
            rate(BenchSetup(folder, postgres, valkey, given), report, given.rounds)
    if given.only != "rate":
        # Servers of their own: those of before still work on what they were told.
        with _servers() as (folder, postgres, valkey):
            organization = Organization(given.models, seed=2)
            half_load.measure(folder, (postgres, valkey), report, organization, given.seconds)
    print(report)


if __name__ == "__main__":
    main()
