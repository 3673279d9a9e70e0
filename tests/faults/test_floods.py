"""Clients without credentials against the real web process: whatever they do, a signed delivery is taken soon."""

from __future__ import annotations

import fcntl
import shutil
import socket
import struct
import tempfile
import termios
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.local.servers import Valkey
from service.upstream.signature import SIGNATURE_HEADER
from service.web.connection import BODY_TIMEOUT_SECONDS, HEADERS_TIMEOUT_SECONDS
from service.web.gunicorn_worker import REQUESTS_PER_CONNECTION, SPARE_CONNECTIONS
from tests.support.flood import Flood, deliver, exchange, request, slowest_delivery, until_closed
from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("floods")

BODY = event_body(new_id())
WRONG = {**signed(BODY), SIGNATURE_HEADER: "sha256=" + "0" * 64}
JSON = {"Content-Type": "application/json"}
LARGEST = 256 * 1024
CHUNKED = {**WRONG, "Transfer-Encoding": "chunked"}

FLOODS = {
    "200": request("GET", "/livez"),
    "404": request("GET", "/nowhere"),
    "page": request("GET", "/api/docs"),
    "401 of the API": request("GET", "/api/v2/organization/models"),
    "readyz": request("GET", "/readyz"),
    "405": request("GET", WEBHOOK_PATH),
    "413": request("POST", WEBHOOK_PATH, JSON, b" " * (LARGEST + 1)),
    "415": request("POST", WEBHOOK_PATH, {"Content-Type": "text/plain"}, BODY),
    "401 unsigned": request("POST", WEBHOOK_PATH, JSON, BODY),
    "401 wrongly signed": request("POST", WEBHOOK_PATH, WRONG, BODY),
    "401 large": request("POST", WEBHOOK_PATH, WRONG, b" " * LARGEST),
    "400 small chunks": request("POST", WEBHOOK_PATH, CHUNKED) + b"1\r\nx\r\n" * LARGEST + b"0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01 what is this?\r\n\r\n",
}
# One of each kind: taken from memory, computed, refused before the body, after it, in the middle of it, and no request.
COMMON = ("200", "page", "415", "401 large", "400 small chunks", "no HTTP")
# The time that a delivery may take on a busy machine.
SOON_SECONDS = 2.0
CONNECTIONS = 40


@pytest.fixture(scope="module")
def web(postgres: Postgres) -> Iterator[System]:
    """One web process, which takes forty clients at a time."""
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    (folder / "web").mkdir()
    settings = {
        "DATABASE_URL": postgres.url,
        "KEEPALIVE_SECONDS": "2",
        "GUNICORN_CMD_ARGS": f"--worker-connections={CONNECTIONS}",
    }
    with (
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(folder / "web", REDIS_URL=valkey.url, **settings) as system,
    ):
        system.start("web")
        system.wait_for_web()
        yield system
        assert "Traceback" not in system.logs()
        assert "WORKER TIMEOUT" not in system.logs()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "name", [*COMMON, *(pytest.param(name, marks=pytest.mark.long) for name in FLOODS if name not in COMMON)]
)
def test_flood_of_requests_delays_no_delivery(web: System, name: str) -> None:
    flood = Flood(web.port, FLOODS[name])
    with flood.running():
        assert eventually(lambda: flood.responses > 0)
        assert slowest_delivery(web.port, 1.5) < SOON_SECONDS


def test_connection_ends_after_its_share_of_requests(web: System) -> None:
    sent = request("GET", "/livez")
    with socket.create_connection(("127.0.0.1", web.port)) as client:
        client.sendall(sent * (REQUESTS_PER_CONNECTION + 50))
        received = until_closed(client)
    assert received.count(b"HTTP/1.1 200 ") == REQUESTS_PER_CONNECTION
    assert received.count(b"Connection: close") == 1


def test_idle_connection_ends_after_keepalive_seconds(web: System) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as client:
        client.sendall(request("GET", "/livez"))
        before = time.monotonic()
        assert until_closed(client).endswith(b"ok\n")
        assert 1.5 < time.monotonic() - before < 15


def test_newcomer_takes_the_place_of_the_oldest_idle_connection(web: System) -> None:
    before = time.monotonic()
    with ExitStack() as stack:
        # None of them says a word. They have 20 seconds for that.
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", web.port))) for _ in range(CONNECTIONS + 5)
        ]
        assert deliver(web.port) < SOON_SECONDS
        assert until_closed(silent[0]) == b""
        assert time.monotonic() - before < HEADERS_TIMEOUT_SECONDS / 2
        silent[-1].sendall(request("GET", "/livez", {"Connection": "close"}))
        assert until_closed(silent[-1]).endswith(b"ok\n")


def test_client_that_never_reads_loses_its_place_to_newcomers(web: System) -> None:
    with ExitStack() as stack:
        # As many as there are places, those for newcomers included.
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", web.port)))
            for _ in range(CONNECTIONS + SPARE_CONNECTIONS)
        ]
        for client in clients:
            client.sendall(request("GET", "/api/openapi.json") * 500)
        # What the responses themselves cost is no part of it: web waits for each of them.
        assert eventually(lambda: stand_still(clients))
        assert deliver(web.port) < SOON_SECONDS


def stand_still(clients: list[socket.socket]) -> bool:
    """Whether bytes lie unread at clients, and for a moment no more of them come. Some lost their places at once."""
    before = [unread(client) for client in clients]
    time.sleep(0.2)
    return any(before) and before == [unread(client) for client in clients]


def unread(client: socket.socket) -> int:
    """How many bytes have come that the client has not read."""
    (number,) = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, b"\0" * 4))
    return int(number)


def test_body_that_is_announced_too_large_is_not_awaited(web: System) -> None:
    before = time.monotonic()
    response = exchange(web.port, request("POST", WEBHOOK_PATH, {**JSON, "Content-Length": str(10**12)}))
    assert response.startswith(b"HTTP/1.1 413 "), response
    assert b"connection: close" in response.lower()
    assert time.monotonic() - before < BODY_TIMEOUT_SECONDS / 2


def test_headers_without_end_are_refused(web: System) -> None:
    head = b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 2000) for number in range(90))
    response = exchange(web.port, head)
    assert response.startswith(b"HTTP/1.1 431 "), response
