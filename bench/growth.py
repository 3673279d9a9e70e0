"""The cost of pulls, endpoint and rows, and how it grows: `python -m bench.growth [--sizes 1000,…,1000000]`.

For each number of models a mirror of its own is pulled twice; then events about its models go through the endpoint, and
from there into rows. Memory is the peak of each process. Prints its part of `RESULTS.md`.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import click

from bench.deliveries import Organization
from bench.load import send
from bench.report import Report, short
from bench.setup import Cost, Meter, Servers, by_kind, pull, sandbox, say, servers
from service.broker.inbox import Inbox
from service.broker.jobs import Job, JobQueue
from tests.support.processes import eventually
from tests.support.system import rows

PULLS = ("first pull", "unchanged pull")
# Models that the events are about, from all over the table.
SOME_MODELS = "select id from headshotpro.models tablesample bernoulli (least({}, 100)) where status <> 'deleted'"
COLUMNS = ["models", "seconds", "µs each", "upstream requests", "WAL MB", "WAL bytes each", "dead tuples"]


class Measurement(NamedTuple):
    """One block of work: seconds, models or events, upstream requests, cost, peaks in MB by kind of process."""

    seconds: float
    number: int
    requests: int
    cost: Cost
    peaks: dict[str, float]

    @property
    def each(self) -> float:
        return self.seconds * 1e6 / self.number


def stretch(place: Servers, number: int, work: Callable[[], Any]) -> Measurement:
    """Measure some work; a pull reports its own figures."""
    with Meter(place) as meter:
        began = time.perf_counter()
        done = work()
        seconds = time.perf_counter() - began
        # Sessions of Postgres report what they did a second later at most.
        time.sleep(1.2)
    peaks, reported = by_kind(place.folder), done if isinstance(done, dict) else {}
    if reported:
        peaks["pull"] = reported["peak_mb"]
    return Measurement(reported.get("seconds", seconds), number, reported.get("requests", 0), meter.cost, peaks)


def measure(models: int, events: int) -> dict[str, Measurement]:
    say(f"{models:,} models")
    with servers() as place, sandbox(models) as upstream, ExitStack() as stack:
        found = {}
        for name in PULLS:
            found[name] = stretch(place, models, lambda: pull(place, upstream))
        system = place.started(stack, "web")
        ids = [row["id"] for row in rows(place.postgres.url, SOME_MODELS.format(2_000 / models * 100))]
        bodies = Organization(ids).stream(events)
        found["endpoint"] = stretch(place, events, lambda: send(system.port, bodies))

        def drain() -> None:
            JobQueue(place.redis).enqueue(Job.DRAIN)
            assert eventually(lambda: Inbox(place.redis).depth().events == 0, 300)

        system.start("worker")
        found["rows"] = stretch(place, events, drain)
        return found


def report_goals(report: Report, sizes: dict[int, dict[str, Measurement]]) -> None:
    """The largest size beside the one before."""
    *_, smaller, largest = sizes
    for name, one in sizes[largest].items():
        grown = one.each / sizes[smaller][name].each
        report.goal(f"{name}: time for each at {largest:,} ÷ at {smaller:,} models", grown, high=1.3)
    most, kind, name = max((mb, kind, name) for name, one in sizes[largest].items() for kind, mb in one.peaks.items())
    report.goal(f"MB of the largest process at {largest:,} models ({kind}, {name})", most, high=400)


@click.command()
@click.option("--sizes", default="1000,10000,100000,1000000", help="Numbers of models, with commas between.")
@click.option("--events", default=5_000, help="Events that go through the endpoint for each size.")
def main(sizes: str, events: int) -> None:
    report = Report("Cost, and how it grows", "python -m bench.growth")
    by_size = {models: measure(models, events) for models in map(int, sizes.split(","))}
    for name in (*PULLS, "endpoint", "rows"):
        kinds = list(dict.fromkeys(kind for found in by_size.values() for kind in found[name].peaks))
        lines = []
        for models, one in ((models, found[name]) for models, found in by_size.items()):
            wal, dead, *redis, _ = one.cost
            figures = [one.seconds, one.each, one.requests, wal / 1e6, wal / one.number, dead, *redis]
            lines.append([f"{models:,}", *map(short, [*figures, *(one.peaks.get(kind, 0.0) for kind in kinds)])])
        columns = [*COLUMNS, "Redis commands", "Redis round trips", *(f"{kind} peak MB" for kind in kinds)]
        report.table(f"{name.capitalize()}:", columns, lines)
    report.note("Of Postgres' processes each counts the part that it touched of the 128 MB that all share.")
    if len(by_size) > 1:
        report_goals(report, by_size)
    print(report)


if __name__ == "__main__":
    main()
