"""From POST to committed row while the endpoint has half of what it can take: the second part of `bench.rows`.

First the endpoint alone is asked as fast as 64 connections can, then a worker runs beside it and deliveries come
evenly, at half that rate. An event's time begins when it was due to be sent, whether a connection was free then or not.
It ends when another connection to Postgres hears of its row: a NOTIFY arrives after the commit, with the newest id of
`model_changes`, and the rows up to it name their events. Both are times of one clock, and a listener that is late makes
them longer, never shorter.
"""

from __future__ import annotations

import json
import multiprocessing
import selectors
import socket
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections import defaultdict, deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from bench.measure import Times
from service.broker import inbox
from service.broker.client import connect_redis
from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH, System, event_body, new_id, rows, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.deliveries import Organization
    from bench.report import Report
    from service.local.servers import Postgres, Valkey

CONNECTIONS = 64
WARM_UP_SECONDS = 3.0
MAXIMUM_SECONDS = 8.0


class CommitTimes(NamedTuple):
    """What a listener heard: at each of these times, rows up to this id were committed."""

    ids: list[int]
    times: list[float]

    def when(self, change_id: int) -> float:
        """When the row of a change was seen to be committed."""
        return self.times[bisect_left(self.ids, change_id)]


def measure(
    folder: Path, servers: tuple[Postgres, Valkey], report: Report, organization: Organization, seconds: float
) -> None:
    """Measure, and report."""
    postgres, valkey = servers
    organization.fill(postgres.url)
    place = Path(tempfile.mkdtemp(dir=folder))
    settings = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "WEB_CONCURRENCY": "2"}
    with System(place, **settings) as system, connect_redis(valkey.url) as client:
        client.flushall()
        system.start("web")
        system.wait_for_web()
        most = _maximum(system.port, organization)
        client.delete(inbox.STREAM)
        _say(f"the endpoint takes {most:.0f} a second; now half of that")
        system.start("worker")
        system.deliver(event_body(new_id()))
        assert eventually(lambda: rows(postgres.url, "select from headshotpro.webhook_events limit 1"), 60), (
            system.logs()
        )
        rate = most / 2
        bodies = organization.stream(round(rate * (WARM_UP_SECONDS + seconds)))
        with _listening(postgres.url) as heard:
            due = _in_child(_evenly, system.port, [request(body) for body in bodies], rate)
            assert eventually(lambda: inbox.Inbox(client).depth().events == 0, 60), system.logs()
            time.sleep(0.5)
    times = Times.of(_waited(postgres.url, bodies, due, heard))
    report.table(
        "From POST to committed row; two web processes, one worker, durable servers, all on this machine:",
        ["deliveries a second", "the endpoint's maximum alone", "p50 ms", "p95 ms", "p99 ms", "worst ms", "rows"],
        [[f"{rate:.0f}", f"{most:.0f}", *(f"{value:.1f}" for value in times[:4]), times.calls]],
    )
    report.at_most("event to row at half load, p50", times.median, 50, " ms")
    report.at_most("event to row at half load, p99", times.p99, 250, " ms")


def _say(words: str) -> None:
    print(f"rows: {words}", file=sys.stderr, flush=True)


def _maximum(port: int, organization: Organization) -> float:
    """Deliveries a second of the endpoint alone, with a connection's next one as soon as the last is answered."""
    requests = [request(body) for body in organization.stream(5_000)]
    _in_child(_flat_out, port, requests, WARM_UP_SECONDS)
    answered: int = _in_child(_flat_out, port, requests, MAXIMUM_SECONDS)
    return answered / MAXIMUM_SECONDS


def _in_child(work: Callable[..., object], *given: object) -> object:
    """Do it in another process, so that sending and listening do not wait for each other."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def _flat_out(port: int, requests: Sequence[bytes], seconds: float) -> int:
    """How many are answered in so many seconds."""
    client = Client(port)
    number, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        while client.free:
            client.send(requests[number % len(requests)])
            number += 1
        client.take_answers(0.1)
    return client.answered


def _evenly(port: int, requests: Sequence[bytes], rate: float) -> list[float]:
    """Send each at its time; the times, in Unix seconds."""
    client = Client(port)
    began, first = time.perf_counter(), time.time()
    number = 0
    while client.answered < len(requests):
        now = time.perf_counter() - began
        while client.free and number < len(requests) and number / rate <= now:
            client.send(requests[number])
            number += 1
        client.take_answers(max(0.0, number / rate - now) if client.free and number < len(requests) else 0.1)
    return [first + place / rate for place in range(len(requests))]


class Client:
    """So many connections that are kept; each has one delivery under way at most."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self._selector = selectors.DefaultSelector()
        self.free: deque[socket.socket] = deque()
        self._half: defaultdict[socket.socket, bytes] = defaultdict(bytes)
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ)
            self.free.append(connection)

    def send(self, delivery: bytes) -> None:
        """Send over a free connection."""
        self.free.popleft().sendall(delivery)

    def take_answers(self, seconds: float) -> None:
        """Take the answers that are there, or come in so many seconds; each has to be a 202."""
        for key, _ in self._selector.select(seconds):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            self._half[connection] += connection.recv(65536)
            # Head and body may come in two parts; a body of ours ends so.
            if self._half[connection].endswith(b"}\n"):
                answer = self._half.pop(connection)
                assert answer.startswith(b"HTTP/1.1 202"), answer
                self.answered += 1
                self.free.append(connection)


def request(body: bytes) -> bytes:
    """A delivery as bytes, signed now."""
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    return (
        f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


@contextmanager
def _listening(url: str) -> Iterator[CommitTimes]:
    """Hear of commits in a thread during the block."""
    heard, enough = CommitTimes([], []), threading.Event()
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("listen headshotpro_changes")

    def listen() -> None:
        while not enough.is_set():
            for notice in connection.notifies(timeout=0.5):
                heard.times.append(time.time())
                heard.ids.append(int(notice.payload))

    listener = threading.Thread(target=listen)
    listener.start()
    yield heard
    enough.set()
    listener.join()
    connection.close()


def _waited(url: str, bodies: Sequence[bytes], due: Sequence[float], heard: CommitTimes) -> list[float]:
    """Seconds from the sending of each event to its row; those of the warm-up and redeliveries left out."""
    sent: dict[str, float] = {}
    for body, at in zip(bodies, due, strict=True):
        sent.setdefault(json.loads(body)["id"], at)
    counts_from = due[0] + WARM_UP_SECONDS
    written = rows(url, "select id, event_id from headshotpro.model_changes where source = 'webhook'")
    return [
        heard.when(change["id"]) - sent[change["event_id"]]
        for change in written
        if sent.get(change["event_id"], 0.0) >= counts_from
    ]
