"""From POST to a row that another connection can read: `python -m bench.latency [--rate 10] [--seconds 60]`.

Two web processes and one worker, durable servers; in the same run a script inserts a row by psycopg and commits. An
event's time begins when it was due, and ends when another connection has a NOTIFY, which arrives after the commit with
the newest id of `model_changes`: a late listener makes times longer, never shorter.
"""

import json
import threading
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import click
import psycopg

from bench.deliveries import Organization
from bench.load import send
from bench.report import Report, Times, times
from bench.setup import Servers, say, servers
from service.broker.inbox import STREAM, Inbox
from tests.support.processes import eventually
from tests.support.system import System, event_body, new_id, rows

WARM_UP_SECONDS = 3.0
COLUMNS = ["", "p50 ms", "p95 ms", "p99 ms", "worst ms", "rows"]


def listen(url: str, heard: list[tuple[int, float]], enough: threading.Event) -> None:
    """Note the newest id of each commit, and when it came."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("listen headshotpro_changes")
        while not enough.is_set():
            heard.extend((int(notice.payload), time.time()) for notice in connection.notifies(timeout=0.5))


def insert(url: str, rate: float, taken: list[float], enough: threading.Event) -> None:
    """Insert and commit a row at this rate; note the seconds of each."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table bench_insert (id text primary key, body jsonb)")
        while not enough.wait(1 / rate):
            began = time.perf_counter()
            connection.execute("insert into bench_insert values (%s, %s)", [new_id(), event_body(new_id()).decode()])
            taken.append(time.perf_counter() - began)


def event_to_row(place: Servers, system: System, bodies: list[bytes], rate: float) -> tuple[Times, Times]:
    """Deliver at a rate to a running web and worker: the time of each event until its row, and of each insert."""
    url, enough = place.postgres.url, threading.Event()
    heard: list[tuple[int, float]] = []
    taken: list[float] = []
    system.deliver(event_body(new_id()))
    assert eventually(lambda: rows(url, "select from headshotpro.webhook_events limit 1"), 60), system.logs()
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.callback(enough.set)
        pool.submit(listen, url, heard, enough)
        pool.submit(insert, url, min(rate, 10), taken, enough)
        sent = send(system.port, bodies, rate)
        assert eventually(lambda: Inbox(place.redis).depth().events == 0, 60), system.logs()
        time.sleep(0.5)
    due: dict[str, float] = {}
    for body, at in zip(bodies, sent.due, strict=True):
        due.setdefault(json.loads(body)["id"], at)
    written = rows(url, "select id, event_id from headshotpro.model_changes where source = 'webhook'")
    begun = [(due[row["event_id"]], row["id"]) for row in written if row["event_id"] in due]
    first = sent.due[0] + WARM_UP_SECONDS
    late = [heard[bisect_left(heard, (number, 0.0))][1] - at for at, number in begun if at >= first]
    return times(late), times(taken)


def measure(report: Report, rate: float | None, seconds: float, models: int = 1_000) -> None:
    """Measure at a rate, or at half of the deliveries that web takes alone."""
    organization = Organization(models, seed=2)
    with servers() as place, ExitStack() as stack:
        organization.fill(place.postgres.url)
        system = place.started(stack, "web")
        if rate is None:
            send(system.port, organization.stream(3_000))
            most = send(system.port, organization.stream(10_000)).rate
            place.redis.delete(STREAM)
            say(f"web takes {most:.0f} a second; now half of that")
        system.start("worker")
        a_second = rate or most / 2
        bodies = organization.stream(round(a_second * (WARM_UP_SECONDS + seconds)))
        found, bare = event_to_row(place, system, bodies, a_second)
    measured = {f"event to row, {a_second:,.0f} a second": found, "bare insert and commit": bare}
    lines = [[name, *(f"{figure:.1f}" for figure in one[:4]), one.calls] for name, one in measured.items()]
    load = "at half of the endpoint's maximum" if rate is None else "where users are"
    title = f"From POST to a row that another connection can read, {load}; two web processes, one worker:"
    report.table(title, COLUMNS, lines)
    p50, p99 = (50, 250) if rate is None else (8, 25)
    report.goal(f"event to row {load}, p50, ms", found.median, high=p50)
    report.goal(f"event to row {load}, p99, ms", found.p99, high=p99)
    if rate:
        report.goal("event to row ÷ bare insert, p50", found.median / bare.median, high=3)


@click.command()
@click.option("--rate", default=10.0, help="Events a second.")
@click.option("--seconds", default=60.0, help="Length of the run; a warm-up comes before.")
def main(rate: float, seconds: float) -> None:
    report = Report("Event to row, where users are", "python -m bench.latency")
    measure(report, rate, seconds)
    print(report)


if __name__ == "__main__":
    main()
