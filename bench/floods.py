"""Clients without credentials beside signed deliveries: `python -m bench.floods [--seconds 10] [--nginx]`.

Four sockets send one request again and again without a pause, while deliveries are sent one after another, each on a
connection of its own. Then 1,000 clients send the largest body but for its last byte. With `--nginx` all of it goes
through `deploy/nginx.conf`, and the others have an address of their own.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.report import Report
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from service.upstream.signature import SIGNATURE_HEADER
from tests.support.flood import Flood, deliver, request
from tests.support.nginx_proxy import NAME, NginxProxy, running
from tests.support.processes import processes_in
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOCKETS = 4
CLIENTS = 1_000
LARGEST = 256 * 1024
AT_MOST_SECONDS = 2
# An address of this machine that is not the deliveries'.
OTHERS = "127.0.0.2"


class FloodRequest(NamedTuple):
    """A request that anybody may send."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


BODY = event_body(new_id())
WRONG = {**signed(BODY), SIGNATURE_HEADER: "sha256=" + "0" * 64}
FLOODS = {
    "`GET /livez`": FloodRequest("GET", "/livez", {}),
    "`GET /nowhere`": FloodRequest("GET", "/nowhere", {}),
    "`GET /api/docs`": FloodRequest("GET", "/api/docs", {}),
    "unsigned delivery": FloodRequest("POST", WEBHOOK_PATH, {"Content-Type": "application/json"}, BODY),
    "wrongly signed delivery": FloodRequest("POST", WEBHOOK_PATH, WRONG, BODY),
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.floods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each flood")
    parser.add_argument("--nginx", action="store_true", help="through deploy/nginx.conf")
    given = parser.parse_args()
    command = "python -m bench.floods" + (" --nginx" if given.nginx else "")
    report = Report("Clients without credentials", command)
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        migrate(postgres.url)
        valkey = stack.enter_context(Valkey.start(folder / "valkey", sync="everysec"))
        (folder / "web").mkdir()
        settings = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "LOG_LEVEL": "error"}
        system = stack.enter_context(System(folder / "web", **settings, WEB_CONCURRENCY="2"))
        system.start("web")
        system.wait_for_web()
        front = stack.enter_context(running(system, folder / "nginx", system.port)) if given.nginx else None
        _floods(report, system, front, given.seconds)
        _memory(report, system, front)
    sys.stdout.write(str(report))


def _floods(report: Report, system: System, front: NginxProxy | None, seconds: float) -> None:
    lines = []
    for name, asked in FLOODS.items():
        sys.stderr.write(f"  {name}\n")
        with _flood(system, front, asked) as responses:
            took = _deliveries(lambda: _deliver(system, front), seconds)
        lines.append((name, len(took), f"{median(took):.3f}", f"{max(took):.3f}", f"{responses() / seconds:,.0f}"))
        report.at_most(f"slowest delivery beside {name}", max(took), AT_MOST_SECONDS, " s")
    columns = ("what is sent", "deliveries", "median s", "slowest s", "responses to the others a second")
    report.table(f"{SOCKETS} sockets for {seconds:g} s, two web processes:", columns, lines)


@contextmanager
def _flood(system: System, front: NginxProxy | None, asked: FloodRequest) -> Iterator[Callable[[], int]]:
    """The others, during the block: how many responses they got."""
    if front is None:
        flood = Flood(system.port, request(*asked), SOCKETS)
        with flood.running():
            yield lambda: flood.responses
        return
    enough, counts = threading.Event(), [0] * SOCKETS
    threads = [threading.Thread(target=_ask, args=(front, asked, enough, counts, place)) for place in range(SOCKETS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def _ask(front: NginxProxy, asked: FloodRequest, enough: threading.Event, counts: list[int], place: int) -> None:
    """Send the request through nginx, again as soon as it is answered."""
    sent = request(asked.method, asked.path, {**asked.headers, "Host": NAME}, asked.body)
    while not enough.is_set():
        with suppress(OSError, HTTPException), front.connected(OTHERS) as client:
            while not enough.is_set():
                client.sendall(sent)
                response = HTTPResponse(client)
                response.begin()
                response.read()
                counts[place] += 1


def _deliver(system: System, front: NginxProxy | None) -> float:
    """One delivery on a connection of its own: the seconds that it took."""
    if front is None:
        return deliver(system.port)
    before, body = time.monotonic(), event_body(new_id())
    with front.connected() as client:
        client.sendall(request("POST", WEBHOOK_PATH, {**signed(body), "Host": NAME}, body))
        response = HTTPResponse(client)
        response.begin()
        assert response.status == 202, response.status
    return time.monotonic() - before


def _deliveries(send: Callable[[], float], seconds: float) -> list[float]:
    took = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        took.append(send())
        time.sleep(0.02)
    return took


def _memory(report: Report, system: System, front: NginxProxy | None) -> None:
    """What bodies take that lack their last byte; their signatures have the right form."""
    sys.stderr.write("  bodies without end\n")
    before = _megabytes(system)
    with ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            with suppress(OSError):
                clients.append(stack.enter_context(_client(system, front)))
                host = {"Host": NAME} if front else {}
                clients[-1].sendall(request("POST", WEBHOOK_PATH, {**WRONG, **host}, b" " * LARGEST)[:-1])
        took = _deliveries(lambda: _deliver(system, front), 5)
        most = _megabytes(system)
    line = (before, most, f"{median(took):.3f}", f"{max(took):.3f}")
    columns = ("MB before", "most MB", "delivery, median s", "slowest s")
    report.table(f"{CLIENTS:,} bodies of 256 KiB, each a byte short, web's three processes:", columns, [line])


@contextmanager
def _client(system: System, front: NginxProxy | None) -> Iterator[socket.socket]:
    """A connection of one of the others."""
    if front is None:
        with socket.create_connection(("127.0.0.1", system.port), 60) as client:
            yield client
        return
    with front.connected(OTHERS) as client:
        yield client


def _megabytes(system: System) -> int:
    """The most that each of the web processes ever held, together."""
    found = [Path(f"/proc/{pid}/status").read_text() for pid in processes_in(system.folder)]
    return sum(int(match[1]) for text in found if (match := re.search(r"VmHWM:\s+(\d+)", text))) // 1024


if __name__ == "__main__":
    main()
