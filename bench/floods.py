"""Clients without credentials beside signed deliveries: `python -m bench.floods [--seconds 10] [--nginx]`.

Four sockets send one request again and again without a pause, while deliveries come one after another, each on a
connection of its own. Then 1,000 clients send the largest body but for its last byte. With `--nginx` everything goes
through `deploy/nginx.conf`, and the others have an address of their own.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from statistics import median

import click

from bench.deliveries import Organization
from bench.report import Report
from bench.setup import peak_mb, say, servers
from service.upstream.signature import SIGNATURE_HEADER
from tests.support.flood import Flood, request
from tests.support.nginx_proxy import NAME, running
from tests.support.processes import processes_in
from tests.support.system import WEBHOOK_PATH, event_body, new_id, signed

SOCKETS = 4
CLIENTS = 1_000
LARGEST = 256 * 1024
# An address of this machine that the deliveries do not come from.
OTHERS = "127.0.0.2"
HOST = {"Host": NAME}
KEY = "key-of-the-bench"
BODY = event_body(new_id())
WRONG = {**signed(BODY), **HOST, SIGNATURE_HEADER: "sha256=" + "0" * 64}
PAGE = "/api/v2/organization/models?limit=200"
FLOODS = {
    "`GET /livez`": request("GET", "/livez", HOST),
    "`GET /nowhere`": request("GET", "/nowhere", HOST),
    "`GET /api/docs`": request("GET", "/api/docs", HOST),
    "page of the API, with a key": request("GET", PAGE, {**HOST, "Authorization": f"Bearer {KEY}"}),
    "unsigned delivery": request("POST", WEBHOOK_PATH, {**HOST, "Content-Type": "application/json"}, BODY),
    "wrongly signed delivery": request("POST", WEBHOOK_PATH, WRONG, BODY),
}
COLUMNS = ["sent by the others", "deliveries", "median s", "slowest s", "web's peak MB"]
# Opens a connection from an address of this machine, directly to web or through nginx.
Connect = Callable[[str], socket.socket]


def exchange(client: socket.socket, sent: bytes) -> int:
    """Send a request and read its response: the status."""
    client.sendall(sent)
    response = HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


def deliveries(connect: Connect, seconds: float) -> list[float]:
    """Deliver for some seconds, each on a connection of its own: the seconds of each."""
    taken, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        body, began = event_body(new_id()), time.monotonic()
        with connect("127.0.0.1") as client:
            assert exchange(client, request("POST", WEBHOOK_PATH, {**signed(body), **HOST}, body)) == 202
        taken.append(time.monotonic() - began)
        time.sleep(0.02)
    return taken


@contextmanager
def asking(connect: Connect, asked: bytes) -> Iterator[None]:
    """Flood through nginx during the block."""
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            with suppress(OSError, HTTPException), connect(OTHERS) as client:
                while not enough.is_set():
                    exchange(client, asked)

    with ThreadPoolExecutor(SOCKETS) as pool, ExitStack() as stack:
        stack.callback(enough.set)
        for _ in range(SOCKETS):
            pool.submit(ask)
        yield


@click.command()
@click.option("--seconds", default=10.0, help="Length of each flood.")
@click.option("--nginx", is_flag=True, help="Through deploy/nginx.conf.")
def main(seconds: float, nginx: bool) -> None:
    report = Report("Clients without credentials", "python -m bench.floods" + " --nginx" * nginx)
    with servers(sync="everysec") as place, ExitStack() as stack:
        system = place.started(stack, "web", LOG_LEVEL="error", MIRROR_API_KEYS=KEY)
        Organization(1_000).fill(place.postgres.url)
        proxy = stack.enter_context(running(system, place.folder / "nginx", system.port)) if nginx else None

        def connect(source: str) -> socket.socket:
            if proxy:
                return stack.enter_context(proxy.connected(source))
            return socket.create_connection(("127.0.0.1", system.port), 60)

        def line(name: str, taken: list[float]) -> list[object]:
            peak = sum(map(peak_mb, processes_in(system.folder)))
            return [name, len(taken), f"{median(taken):.3f}", f"{max(taken):.3f}", f"{peak:.0f}"]

        lines = [line("nothing", deliveries(connect, seconds))]
        for name, asked in FLOODS.items():
            say(name)
            with asking(connect, asked) if proxy else Flood(system.port, asked, SOCKETS).running():
                taken = deliveries(connect, seconds)
            lines.append(line(name, taken))
            report.goal(f"slowest delivery beside {name}, s", max(taken), high=2)
        say("bodies without end")
        held = []
        for _ in range(CLIENTS):
            with suppress(OSError):
                held.append(connect(OTHERS))
                held[-1].sendall(request("POST", WEBHOOK_PATH, WRONG, b" " * LARGEST)[:-1])
        lines.append(line(f"{CLIENTS:,} bodies of 256 KiB, each a byte short", deliveries(connect, 5)))
        report.table(f"{SOCKETS} sockets for {seconds:g} s, web's three processes:", COLUMNS, lines)
    print(report)


if __name__ == "__main__":
    main()
