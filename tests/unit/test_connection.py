"""A client's connection by itself, over a pair of sockets: deadlines, turns and limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
import pytest
from gunicorn.http.errors import LimitRequestHeaders

from service.web import connection
from service.web.connection import MAX_HEADER_BYTES, MAX_LINGER_BYTES, READ_BYTES, Connection, TurnQueue
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

# A bound that an endless wait would exceed.
TEST_TIMEOUT_SECONDS = 20.0


class Pair:
    """Both ends.

    Attributes:
        ours: as gunicorn has it.
        client: the other end.
    """

    def __init__(self) -> None:
        socket, self.client = gevent.socket.socketpair()
        self.ours = Connection(socket, TurnQueue())
        self.client.settimeout(TEST_TIMEOUT_SECONDS)

    def body(self) -> list[int]:
        """Begin a body: the sizes of what arrives of it."""
        sizes: list[int] = []
        self.ours.expect_body(sizes.append)
        return sizes


def read_all(ours: Connection) -> None:
    """Read until nothing comes."""
    while ours.recv(8192):
        pass


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    with gevent.Timeout(TEST_TIMEOUT_SECONDS):
        yield made
    made.client.close()
    made.ours.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a tenth of a second."""
    for name in ("HEADERS_TIMEOUT_SECONDS", "BODY_TIMEOUT_SECONDS", "SEND_TIMEOUT_SECONDS"):
        monkeypatch.setattr(connection, name, 0.1)


@pytest.mark.usefixtures("quick")
def test_head_that_does_not_come_ends_the_connection() -> None:
    pair = Pair()
    pair.client.sendall(b"GET /")
    assert pair.ours.recv(100) == b"GET /"
    assert pair.ours.recv(100) == b""


@pytest.mark.usefixtures("quick")
def test_trickled_body_ends_at_its_deadline(pair: Pair) -> None:
    pair.body()

    def trickle() -> None:
        while True:
            pair.client.sendall(b"x")
            gevent.sleep(0.01)

    trickling = gevent.spawn(trickle)
    with pytest.raises(TimeoutError):
        read_all(pair.ours)
    trickling.kill()


def test_idle_time_ends_with_the_first_byte_of_a_request(pair: Pair) -> None:
    pair.body()
    assert pair.ours.expect_request(0.2)
    pair.client.sendall(b"GET ")
    assert pair.ours.recv(100) == b"GET "
    gevent.spawn_later(0.4, pair.client.sendall, b"/livez")
    assert pair.ours.recv(100) == b"/livez"
    assert pair.ours.expect_request(0.05)
    assert pair.ours.recv(100) == b""


def test_request_that_waits_after_a_standstill_is_received(pair: Pair) -> None:
    pair.body()
    assert pair.ours.expect_request(0.1)
    pair.client.sendall(b"GET ")
    # No greenlet runs meanwhile, as in a process that is stopped.
    time.sleep(0.2)
    assert pair.ours.recv(100) == b"GET "
    pair.client.sendall(b"/livez")
    assert pair.ours.recv(100) == b"/livez"


@pytest.mark.usefixtures("quick")
def test_client_that_does_not_read_is_disconnected(pair: Pair) -> None:
    with pytest.raises(ConnectionResetError):
        pair.ours.sendall(b"x" * 10_000_000)


def test_body_that_breaks_off_is_an_error(pair: Pair) -> None:
    sizes = pair.body()
    pair.client.sendall(b"half")
    pair.client.shutdown(1)
    assert pair.ours.recv(100) == b"half"
    with pytest.raises(ConnectionResetError):
        pair.ours.recv(100)
    assert sizes == [4]


def test_headers_over_the_limit_are_refused(pair: Pair) -> None:
    gevent.spawn(pair.client.sendall, b"x" * (2 * MAX_HEADER_BYTES))
    with pytest.raises(LimitRequestHeaders):
        read_all(pair.ours)


def test_no_more_is_read_at_once_than_a_piece(pair: Pair) -> None:
    pair.body()
    gevent.spawn(pair.client.sendall, b"x" * 100_000)
    gevent.sleep(0.01)
    assert len(pair.ours.recv(1_000_000)) <= READ_BYTES


@pytest.mark.parametrize("phase", ["head", "body", "response"])
def test_cut_connection_waits_no_longer(pair: Pair, phase: str) -> None:
    if phase != "head":
        pair.body()

    def wait() -> Any:
        try:
            return pair.ours.sendall(b"x" * 10_000_000) if phase == "response" else pair.ours.recv(10)
        except OSError as error:
            return type(error)

    waiting = gevent.spawn(wait)
    pair.ours._greenlet = waiting  # type: ignore[assignment]
    gevent.sleep(0.01)
    assert pair.ours.is_waiting
    pair.ours.abort()
    assert waiting.get() == {"head": b"", "body": TimeoutError, "response": ConnectionResetError}[phase]


def test_client_that_never_pauses_gives_way_to_others(pair: Pair) -> None:
    pair.client.sendall(b"GET " * 100)
    others = 0

    def other() -> None:
        nonlocal others
        while True:
            others += 1
            gevent.sleep(0)

    running = gevent.spawn(other)
    for _ in range(20):
        assert pair.ours.recv(4) == b"GET "
        assert pair.ours.expect_request(10)
    running.kill()
    assert others >= 19


def test_connections_that_never_pause_have_equal_turns() -> None:
    turns, counts = TurnQueue(), [0] * 5

    def go_on(place: int) -> None:
        while True:
            turns.wait()
            counts[place] += 1

    greedy = [gevent.spawn(go_on, place) for place in range(len(counts))]
    gevent.sleep(0.2)
    gevent.killall(greedy)
    assert min(counts) > 1
    assert max(counts) - min(counts) <= 1


def test_client_that_waits_for_its_response_does_not_sleep(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "YIELD_SECONDS", TEST_TIMEOUT_SECONDS)
    for _ in range(3):
        gevent.spawn_later(0.01, pair.client.sendall, b"GET ")
        assert pair.ours.recv(100) == b"GET "
        pair.ours.expect_request(10)


def test_trickling_client_is_looked_at_seldom(pair: Pair) -> None:
    pair.body()

    def trickle() -> None:
        for _ in range(200):
            pair.client.sendall(b"x")
            gevent.sleep(0.01)

    trickling = gevent.spawn(trickle)
    pieces, received = 0, 0
    while received < 200:
        received += len(pair.ours.recv(100))
        pieces += 1
    trickling.join()
    assert pieces < 20


def test_client_that_still_sends_gets_its_response_before_close(pair: Pair) -> None:
    pair.body()
    pair.ours.unfinished = True
    pair.ours.sendall(b"no")
    closing = gevent.spawn(pair.ours.close)
    pair.client.sendall(b"x" * (MAX_LINGER_BYTES // 4))
    assert pair.client.recv(10) == b"no"
    pair.client.close()
    before = time.monotonic()
    closing.join()
    assert time.monotonic() - before < TEST_TIMEOUT_SECONDS / 2
    assert eventually(lambda: closing.dead)
