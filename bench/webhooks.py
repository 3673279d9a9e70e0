"""Deliveries from POST to 202 beside a bare Flask route behind the same server: `python -m bench.webhooks`.

64 connections deliver as fast as the responses come, then by a clock at half of that; then beside 200 connections that
hang in mid-body. Prints its part of `RESULTS.md`.
"""

import select
import socket
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

import click
from flask import Flask, Response, jsonify, request

from bench.deliveries import Organization
from bench.load import CONNECTIONS, Sent, as_request, send
from bench.report import Report, alternate, ratio, spread
from bench.setup import by_kind, cpu_of_folder, say, servers
from service.broker.client import connect_redis
from service.broker.inbox import STREAM
from service.local.servers import Valkey
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id

HANGING = 200
FLOOR, EVERYSEC, ALWAYS = "bare Flask route", "endpoint, appendfsync everysec", "endpoint, appendfsync always"
BARE = [sys.executable, "-m", "gunicorn", "-c", "python:service.web.gunicorn_conf", "bench.webhooks:bare()"]
COLUMNS = ["", "deliveries/s", "of the bare route", "p50 ms", "p99 ms", "web CPU ms", "Redis CPU ms", "round trips"]


def bare() -> Flask:
    """The floor: a route that reads the body and responds as the endpoint does; it has the endpoint's server."""
    app = Flask(__name__)

    @app.post(WEBHOOK_PATH)
    def _receive() -> tuple[Response, int]:
        return jsonify(status="accepted", event=f"evt_{len(request.get_data(cache=False))}"), 202

    app.add_url_rule("/livez", view_func=lambda: "ok\n")
    return app


class Side:
    """One web server, its Redis if it needs one, and for each of its full-load runs the cost of a delivery."""

    def __init__(self, system: System, valkey: Valkey | None, organization: Organization) -> None:
        self.system, self._valkey, self._organization = system, valkey, organization
        self.runs: list[tuple[Sent, list[float]]] = []
        self._next = 5_000
        system.start("web") if valkey else system.run("bare", BARE)
        system.wait_for_web()

    def burst(self, seconds: float) -> float:
        """Deliveries a second, as many as it takes, for about this time."""
        before = self._usage()
        sent = self.send(self._next)
        used = zip(self._usage(), before, strict=True)
        self.runs.append((sent, [(now - then) / len(sent.due) for now, then in used]))
        self._next = max(1_000, int(sent.rate * seconds))
        return sent.rate

    def burst_among_hanging(self, seconds: float) -> float:
        """The same while connections hang that have sent a part of a body; none has a response at the end."""
        with ExitStack() as stack:
            address = ("127.0.0.1", self.system.port)
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(HANGING)]
            for client in clients:
                client.sendall(as_request(event_body(new_id()))[:-20])
            # Until the server accepted all of them.
            time.sleep(0.5)
            rate = self.burst(seconds)
            for client in clients:
                assert not select.select([client], [], [], 0)[0], "a hanging client had a response"
            return rate

    def send(self, deliveries: int, rate: float = 0.0) -> Sent:
        """Deliver; every 202 is a delivery that is stored, and the next run finds the inbox empty."""
        sent = send(self.system.port, self._organization.stream(deliveries), rate)
        if self._valkey:
            with connect_redis(self._valkey.url) as client:
                assert client.xlen(STREAM) >= deliveries
                client.delete(STREAM)
        return sent

    def _usage(self) -> list[float]:
        """CPU seconds of web and of Redis so far, and round trips to Redis."""
        web = cpu_of_folder(self.system.folder)
        if not self._valkey:
            return [web, 0, 0]
        with connect_redis(self._valkey.url) as client:
            stats: Any = client.info("stats")
        return [web, cpu_of_folder(self._valkey.folder.path), stats["total_reads_processed"]]


def full_speed(sides: dict[str, Side], report: Report, seconds: float, rounds: int) -> None:
    for side in sides.values():
        side.burst(seconds)
        side.runs.clear()
    say("as fast as it goes")
    taken = alternate({name: lambda side=side: side.burst(seconds) for name, side in sides.items()}, rounds, warm_up=0)
    lines = []
    for name, side in sides.items():
        p50, p99 = (median(getattr(sent.times, part) for sent, _ in side.runs) for part in ("median", "p99"))
        web, redis, trips = (median(used[figure] for _, used in side.runs) for figure in range(3))
        figures = [f"{p50:.1f}", f"{p99:.1f}", f"{1000 * web:.3f}", f"{1000 * redis:.3f}", f"{trips:.2f}"]
        lines.append([name, spread(taken[name]), ratio(taken, name, FLOOR), *figures])
    report.table(f"As fast as {CONNECTIONS} connections go; CPU and round trips to Redis are for each:", COLUMNS, lines)
    report.note("Times are those of a server that is full.")
    report.goal("endpoint over bare route, everysec", ratio(taken, EVERYSEC, FLOOR), 0.6)
    report.goal("endpoint over bare route, always", ratio(taken, ALWAYS, FLOOR), 0.4)


def half_load(sides: dict[str, Side], report: Report, seconds: float) -> None:
    lines = []
    for name, side in sides.items():
        say(f"half load: {name}")
        rate = median(sent.rate for sent, _ in side.runs) / 2
        sent = side.send(int(seconds * rate), rate)
        sender = f"{sent.cpu / sent.seconds:.0%} of a core"
        lines.append([name, f"{rate:,.0f}", f"{sent.times.median:.1f}", f"{sent.times.p99:.1f}", sender])
        if name != FLOOR:
            report.goal(f"p99 at half load, {name}, ms", sent.times.p99, high=50)
    report.table("At half of that, by a clock:", ["", "deliveries/s", "p50 ms", "p99 ms", "sender"], lines)


def among_hanging(side: Side, report: Report, seconds: float, rounds: int) -> None:
    say("among clients that hang")
    runs = {"alone": lambda: side.burst(seconds), "among": lambda: side.burst_among_hanging(seconds)}
    taken = alternate(runs, rounds, warm_up=0)
    slowed = ratio(taken, "among", "alone")
    line = [spread(taken["alone"]), spread(taken["among"]), slowed]
    report.table(f"While {HANGING} connections hang in mid-body:", ["alone/s", "among them/s", "ratio"], [line])
    report.goal(f"rate while {HANGING} hang in mid-body", slowed, 0.5)


@click.command()
@click.option("--seconds", default=5.0, help="Length of each run.")
@click.option("--rounds", default=3, help="In each round every side has one run.")
def main(seconds: float, rounds: int) -> None:
    report = Report("Endpoint: from POST to 202", "python -m bench.webhooks")
    with servers(sync="everysec") as place, ExitStack() as stack:
        always = stack.enter_context(Valkey.start(place.folder / "valkey-always", sync="always"))
        upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        settings = {"HEADSHOTPRO_API_URL": f"http://127.0.0.1:{upstream.getsockname()[1]}/api/v2"}
        organization, sides = Organization(5_000), {}
        for name, redis in ((FLOOR, None), (EVERYSEC, place.valkey), (ALWAYS, always)):
            system = place.started(stack, REDIS_URL=(redis or always).url, **settings)
            sides[name] = Side(system, redis, organization)
        full_speed(sides, report, seconds, rounds)
        half_load(sides, report, 2 * seconds)
        among_hanging(sides[EVERYSEC], report, seconds, rounds)
        assert not select.select([upstream], [], [], 0)[0], "web sent a request to the upstream"
        peak = by_kind(sides[EVERYSEC].system.folder)["web"]
        report.note(f"The largest web process held {peak:.0f} MB at its peak.")
    print(report)


if __name__ == "__main__":
    main()
