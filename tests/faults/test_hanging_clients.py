"""Clients that hang, trickle or break off, on the wire of the real web process: others are served, and they end."""

from __future__ import annotations

import re
import shutil
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.local.servers import Valkey
from service.web.bodies import BODY_BUDGET_BYTES
from service.web.connection import BODY_TIMEOUT_SECONDS
from tests.support.flood import deliver, request, until_closed
from tests.support.processes import TEST_TIMEOUT_SECONDS, eventually, processes_in
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("hanging clients")

HANGING = 200
LARGEST = 256 * 1024


@pytest.fixture(scope="module")
def web(postgres: Postgres) -> Iterator[System]:
    """The endpoint alone, as one process: everything that hangs, hangs in that."""
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    (folder / "web").mkdir()
    with (
        Valkey.start(folder / "valkey", sync="no") as valkey,
        System(folder / "web", DATABASE_URL=postgres.url, REDIS_URL=valkey.url) as system,
    ):
        system.start("web")
        system.wait_for_web()
        yield system
    shutil.rmtree(folder)


class Client:
    """A raw connection with a signed delivery, of which it sends the parts that it is given."""

    def __init__(self, web: System) -> None:
        body = event_body(new_id())
        head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
        self.head = f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: web\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode()
        self.body = body
        self.socket = socket.create_connection(("127.0.0.1", web.port), TEST_TIMEOUT_SECONDS)

    def send(self, some: bytes) -> None:
        self.socket.sendall(some)

    def answer(self) -> bytes:
        """One response, whose body ends a line; less where the connection ends."""
        self.socket.settimeout(BODY_TIMEOUT_SECONDS + TEST_TIMEOUT_SECONDS)
        answer = b""
        while not answer.endswith(b"}\n") and (more := self.socket.recv(4000)):
            answer += more
        return answer


@pytest.fixture
def clients(web: System) -> Iterator[list[Client]]:
    """Twice as many clients as web has to bear: half of them send half a header, the others half a body."""
    with ExitStack() as stack:
        connected = []
        for number in range(2 * HANGING):
            client = Client(web)
            stack.callback(client.socket.close)
            client.send(client.head + client.body[:20] if number % 2 else client.head[:40])
            connected.append(client)
        yield connected


def seconds_of_a_delivery(web: System) -> float:
    """The median of thirty: one that the machine held up counts for nothing."""
    took = []
    for _ in range(30):
        before = time.monotonic()
        assert web.deliver(event_body(new_id())).status == 202
        took.append(time.monotonic() - before)
    return statistics.median(took)


def open_files(web: System) -> int:
    """How many descriptors the web processes have."""
    count = 0
    for pid in processes_in(web.folder):
        with suppress(OSError):
            count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return count


@pytest.mark.long
def test_hundreds_that_hang_keep_nobody_out_and_end_some_day(web: System, request: pytest.FixtureRequest) -> None:
    alone, files = seconds_of_a_delivery(web), open_files(web)
    clients: list[Client] = request.getfixturevalue("clients")
    assert eventually(lambda: open_files(web) >= files + 2 * HANGING)
    assert seconds_of_a_delivery(web) < 10 * alone
    assert web.get("/readyz").status == 200
    # Those that go on after all are served.
    for client in clients[:2]:
        client.send((client.head + client.body)[40:] if client is clients[0] else client.body[20:])
        assert client.answer().startswith(b"HTTP/1.1 202")
    trickling, hanging = clients[3], clients[4:]
    deadline = time.monotonic() + BODY_TIMEOUT_SECONDS + TEST_TIMEOUT_SECONDS
    with suppress(OSError):
        while time.monotonic() < deadline:
            trickling.send(b" ")
            time.sleep(0.5)
    assert time.monotonic() < deadline
    answers = {client.answer()[:12] for client in hanging}
    assert answers == {b"", b"HTTP/1.1 408"}
    assert eventually(lambda: open_files(web) <= files + 10)


def memory(web: System) -> int:
    """The resident bytes of the web processes."""
    found = [Path(f"/proc/{pid}/status").read_text() for pid in processes_in(web.folder)]
    return sum(1024 * int(match[1]) for text in found if (match := re.search(r"VmRSS:\s+(\d+)", text)))


def short_of_a_byte(web: System, stack: ExitStack, headers: dict[str, str]) -> socket.socket:
    """A connection with a body of the largest size, of which the last byte does not come."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), TEST_TIMEOUT_SECONDS))
    client.sendall(request("POST", WEBHOOK_PATH, headers, b" " * LARGEST)[:-1])
    return client


def test_bodies_without_end_take_no_more_than_their_budget(web: System) -> None:
    before, held = memory(web), BODY_BUDGET_BYTES // LARGEST
    with ExitStack() as stack:
        # Signed in form; what the signature is worth shows only when the body is here.
        clients = [short_of_a_byte(web, stack, signed(b"another body")) for _ in range(3 * held)]
        deliver(web.port)
        # A connection itself takes some, too, and what was freed is not all given back.
        assert memory(web) - before < 4 * BODY_BUDGET_BYTES
        # The ones that came first had to make room for those that came later.
        assert until_closed(clients[0]).startswith(b"HTTP/1.1 408 ")
        clients[-1].sendall(b" ")
        assert clients[-1].recv(100).startswith(b"HTTP/1.1 401 ")


def test_unsigned_body_is_refused_before_it_is_there(web: System) -> None:
    before = memory(web)
    with ExitStack() as stack:
        clients = [short_of_a_byte(web, stack, {"Content-Type": "application/json"}) for _ in range(200)]
        assert {client.recv(100)[:13] for client in clients} == {b"HTTP/1.1 401 "}
        assert memory(web) - before < 200 * LARGEST / 2


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"5\r\nhello",
        b"5\r\nhelloXX\r\n",
        b"5;\r\r\nhello\r\n",
        b"-1\r\n\r\n",
        b"f" * 5000,
        b"0\r\nbad header\r\n\r\n",
    ],
)
def test_a_body_that_is_not_in_chunks_as_told_is_a_400(web: System, body: bytes) -> None:
    client = Client(web)
    head, _, _ = client.head.partition(b"Content-Length")
    client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    client.socket.shutdown(socket.SHUT_WR)
    answer = client.answer()
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b'"INVALID_REQUEST"' in answer
    assert b"connection: close" in answer.lower()
    client.socket.close()
    assert "Traceback" not in web.logs()


@pytest.mark.last
def test_idle_connections_do_not_delay_graceful_shutdown_of_web(web: System) -> None:
    kept = [Client(web) for _ in range(20)]
    for client in kept[:10]:
        client.send(client.head + client.body)
        assert client.answer().startswith(b"HTTP/1.1 202")
    # One more request during the shutdown gets a response that closes its connection.
    (started,) = web.started
    started.process.terminate()
    time.sleep(0.5)
    kept[0].send(kept[0].head + kept[0].body)
    answer = kept[0].answer()
    assert answer.startswith(b"HTTP/1.1 202")
    assert b"connection: close" in answer.lower()
    assert [client.answer() for client in kept[1:]] == [b""] * 19
    assert started.process.wait(10) == 0
    # Nobody was waited for until the time was over, and then broken off.
    assert "broken off" not in started.said
    assert "Traceback" not in started.said, started.said
