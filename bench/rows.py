"""Event to row: `python -m bench.rows [--events 40000] [--rounds 3] [--only rate|latency]`; its part of `RESULTS.md`.

How fast one worker empties a full inbox beside a floor and two peers, and the time from POST to committed row at half
load (`bench.latency`). A peer that is not installed (`make bench-peers`) is named as missing.
"""

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from bench import latency
from bench.deliveries import Organization
from bench.floor import JOB
from bench.report import Report, alternate, ratio, spread
from bench.setup import Cost, Meter, Servers, by_kind, peak_mb, run_side, say, servers
from service.broker.inbox import STREAM, Inbox
from service.broker.jobs import Job, JobQueue, rq_queue
from tests.support.processes import eventually
from tests.support.system import ROOT

PEERS = ROOT / ".bench"
STRIPE = Path(__file__).parent / "peers" / "stripe.cjs"
WORKER, FLOOR, ONE_JOB, ENGINE = "one worker", "psycopg floor", "one RQ job an event", "stripe-sync-engine"
WANTED = {FLOOR: 0.6, ONE_JOB: 60, ENGINE: 3}
QUEUE = "bench-one-job"
# Our own worker refuses foreign jobs.
RQ_WORKER = ["-m", "rq.cli", "worker", "--worker-class", "rq.worker.SimpleWorker", "--logging_level", "WARNING"]


class Sides:
    """The sides, each a rate of events; of the last turn of each its cost, events, and peak of its process in MB."""

    def __init__(self, place: Servers, models: int, events: int, jobs: int, webhooks: int) -> None:
        self._place, self._models, self._jobs, self._webhooks = place, models, jobs, webhooks
        self._organization = Organization(models)
        self._bodies = self._organization.stream(events)
        self._file = place.folder / "bodies"
        self._file.write_bytes(b"\n".join(self._bodies))
        self.costs: dict[str, tuple[Cost, int, float]] = {}

    def worker(self) -> float:
        self._begin(WORKER)
        redis, now = self._place.redis, time.time()
        for number, body in enumerate(self._bodies):
            delivery = {"body": body, "signed_at": int(now), "received_at": now, "delivery_id": f"{number:016x}"}
            redis.xadd(STREAM, delivery)
        with ExitStack() as stack, Meter(self._place) as meter:
            system = self._place.started(stack, "worker")
            JobQueue(redis).enqueue(Job.DRAIN)
            rate = _drain_rate(lambda: Inbox(redis).depth().events)
            peak = by_kind(system.folder)["worker: child for events"]
        self.costs[WORKER] = meter.cost, len(self._bodies), peak
        return rate

    def floor(self) -> float:
        self._begin(FLOOR)
        command = [sys.executable, "-m", "bench.floor", self._place.postgres.url, self._file]
        return self._run(FLOOR, command, len(self._bodies))

    def one_job(self) -> float:
        self._begin(ONE_JOB)
        queue = rq_queue(self._place.redis, QUEUE)
        for body in self._bodies[: self._jobs]:
            queue.enqueue(JOB, self._place.postgres.url, body.decode())
        options = ["--url", self._place.valkey.url, "--serializer", "rq.serializers.JSONSerializer", QUEUE]
        with ExitStack() as stack, Meter(self._place) as meter:
            system = self._place.started(stack, PYTHONPATH=str(ROOT))
            worker = system.run("one-job", [sys.executable, *RQ_WORKER, *options])
            rate = _drain_rate(lambda: queue.count)
            peak = peak_mb(worker.process.pid)
        self.costs[ONE_JOB] = meter.cost, self._jobs, peak
        return rate

    def engine(self) -> float:
        self._begin(ENGINE)
        command = [shutil.which("node"), STRIPE, PEERS, self._place.postgres.url, self._webhooks, self._models]
        run_side([*map(str, command), "prepare"])
        return self._run(ENGINE, [*map(str, command), "run"], self._webhooks)

    def _begin(self, side: str) -> None:
        say(side)
        self._place.redis.flushall()
        self._organization.fill(self._place.postgres.url)

    def _run(self, side: str, command: list[Any], events: int) -> float:
        with Meter(self._place) as meter:
            found = run_side(command)
        self.costs[side] = meter.cost, events, found["peak_mb"]
        return float(found["rate"])


def _drain_rate(depth: Callable[[], int]) -> float:
    """Events a second that leave a full queue, from the first that left to the last."""
    full = depth()
    assert eventually(lambda: depth() < full, 60)
    first, began = depth(), time.perf_counter()
    while depth() > 0:
        time.sleep(0.01)
    return first / (time.perf_counter() - began)


def rate(sides: Sides, report: Report, rounds: int) -> None:
    turns = {WORKER: sides.worker, FLOOR: sides.floor, ONE_JOB: sides.one_job}
    if (PEERS / "node_modules/@supabase/stripe-sync-engine").is_dir() and shutil.which("node"):
        turns[ENGINE] = sides.engine
    else:
        report.note("Missing: stripe-sync-engine (`make bench-peers` installs it; it needs node).")
    taken = alternate(turns, rounds)
    lines = []
    for side, rates in taken.items():
        cost, events, peak = sides.costs[side]
        each = [f"{figure * 1000 / events:,.0f}" for figure in cost[:2]]
        lines.append([side, spread(rates), ratio(taken, WORKER, side), *each, f"{peak:.0f}"])
    columns = ["side", "events a second", "the worker ÷ this side", "WAL bytes", "dead tuples", "MB"]
    title = "A full inbox, durable Postgres, appendfsync always; cost of 1,000 events, peak MB of the process:"
    report.table(title, columns, lines)
    for side, wanted in WANTED.items():
        if side in taken:
            report.goal(f"one worker ÷ {side}", ratio(taken, WORKER, side), wanted)


@click.command()
@click.option("--events", default=40_000, help="Deliveries in the full inbox.")
@click.option("--models", default=20_000, help="Models that are known before.")
@click.option("--jobs", default=1_000, help="Events of the side with one job for each.")
@click.option("--webhooks", default=10_000, help="Events of stripe-sync-engine.")
@click.option("--rounds", default=3, help="Rounds that count; one to warm up comes before.")
@click.option("--seconds", default=30.0, help="Length of the half load.")
@click.option("--only", type=click.Choice(["rate", "latency"]))
def main(events: int, models: int, jobs: int, webhooks: int, rounds: int, seconds: float, only: str | None) -> None:
    report = Report("Event to row", "python -m bench.rows")
    if only != "latency":
        with servers() as place:
            rate(Sides(place, models, events, jobs, webhooks), report, rounds)
    if only != "rate":
        latency.measure(report, None, seconds, models)
    print(report)


if __name__ == "__main__":
    main()
