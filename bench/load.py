"""The load generator: signed deliveries over kept connections, as fast as the responses come or by a clock.

A clock with random gaps, as of many senders, sends whatever the server does. The time of a delivery counts from when it
was due, so a stalled server does not slow its own measurement. The sender is a process of its own.
"""

import multiprocessing
import selectors
import socket
import time
from collections import deque
from random import Random
from typing import NamedTuple

from bench.report import Times, times
from tests.support.flood import request
from tests.support.system import WEBHOOK_PATH, signed

CONNECTIONS = 64
DEADLINE_SECONDS = 60.0


class Sent(NamedTuple):
    """One run: seconds, when each body was due (Unix seconds), times from then to the response, CPU of the sender."""

    seconds: float
    due: list[float]
    times: Times
    cpu: float

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return len(self.due) / self.seconds


def send(port: int, bodies: list[bytes], rate: float = 0.0) -> Sent:
    """Deliver all bodies to web on this port, `rate` a second or as many as it takes; each has to be accepted."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_send, (port, bodies, rate))


def as_request(body: bytes) -> bytes:
    """A delivery as bytes, signed now."""
    return request("POST", WEBHOOK_PATH, signed(body), body)


class _Connection:
    """A connection, and the delivery in flight on it: when it was due, and the response so far."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(self.socket, selectors.EVENT_READ, self)
        self.due, self.response = 0.0, b""


def _send(port: int, bodies: list[bytes], rate: float) -> Sent:
    requests = [as_request(body) for body in bodies]
    rng, selector = Random(1), selectors.DefaultSelector()
    idle = deque(_Connection(port, selector) for _ in range(CONNECTIONS))
    due: list[float] = []
    taken: list[float] = []
    cpu, unix, began = time.process_time(), time.time(), time.perf_counter()
    coming = began
    while len(taken) < len(requests):
        now = time.perf_counter()
        while idle and len(due) < len(requests) and coming <= now:
            connection = idle.popleft()
            connection.due, connection.response = coming if rate else now, b""
            connection.socket.sendall(requests[len(due)])
            due.append(connection.due)
            coming += rng.expovariate(rate) if rate else 0
        may_send = idle and len(due) < len(requests)
        ready = selector.select(max(0.0, coming - time.perf_counter()) if may_send else DEADLINE_SECONDS)
        assert ready or may_send, f"{len(due) - len(taken)} deliveries had no response in {DEADLINE_SECONDS} s"
        for key, _ in ready:
            connection = key.data
            connection.response += connection.socket.recv(65536)
            # Each body of a response ends so, and no head does.
            if not connection.response.endswith(b"}\n"):
                continue
            assert connection.response.startswith(b"HTTP/1.1 202"), connection.response
            taken.append(time.perf_counter() - connection.due)
            if b"\r\nConnection: close\r\n" in connection.response:
                selector.unregister(connection.socket)
                connection.socket.close()
                connection = _Connection(port, selector)
            idle.append(connection)
    seconds = time.perf_counter() - began
    return Sent(seconds, [unix + one - began for one in due], times(taken), time.process_time() - cpu)
