"""A client that sends at a given rate whatever the server does: `python -m bench.paced PORT FILE SIZE …`.

wrk waits for an answer before it sends the next request, so a server that stalls is asked less just then, and the
stall hardly shows. Here requests come due by a clock (with random gaps, as those of many senders), and each one's time
counts from when it was due. At rate 0 every connection sends as soon as it may: that is for machines without wrk.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, BinaryIO

from bench.measure import Times

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, with at most one request under way.

    Attributes:
        socket: to the server.
        due: when its request was to be sent.
        answer: what came back so far.
    """

    socket: socket.socket
    due: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    def fileno(self) -> int:
        """For `select`."""
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send a request."""
        if b"\r\nConnection: close\r\n" in self.answer:
            # web ends each connection after many requests.
            address = self.socket.getpeername()
            self.socket.close()
            self.socket = socket.create_connection(address)
        self.due = due
        self.answer.clear()
        self.socket.sendall(request)

    def receive(self) -> bool | None:
        """Read some more: whether the answer was a 202, None while it is not complete.

        Every body of ours ends a line, and nothing before it ends so.
        """
        some = self.socket.recv(4096)
        assert some, "the server hung up"
        self.answer += some
        return self.answer.startswith(b"HTTP/1.1 202") if self.answer.endswith(b"}\n") else None


class Paced:
    """Requests by a clock, over connections that are kept.

    Args:
        connections: opened already.
        requests: those to send, one after another.
        rate: how many a second; 0 for as many as can be.
    """

    def __init__(self, connections: list[Connection], requests: BinaryIO, size: int, rate: float) -> None:
        self._idle = connections
        self._busy: set[Connection] = set()
        self._requests = requests
        self._size = size
        self._rate = rate
        self.seconds: list[float] = []
        self.failed = 0

    def run(self, seconds: float) -> float:
        """Send for so long, and wait for what is under way then: the seconds that it took."""
        began = time.perf_counter()
        due = self._next_due(Random(1), began)
        coming = next(due)
        while (now := time.perf_counter()) < began + seconds or self._busy:
            assert now < began + seconds + PATIENCE_SECONDS, f"{len(self._busy)} requests were never answered"
            while self._idle and coming <= now and coming < began + seconds:
                self._send(coming)
                coming = next(due)
            self._receive(self._wait_at_most(coming, began + seconds))
        return time.perf_counter() - began

    def _next_due(self, rng: Random, began: float) -> Iterator[float]:
        at = began
        while True:
            at = at + rng.expovariate(self._rate) if self._rate else time.perf_counter()
            yield at

    def _wait_at_most(self, coming: float, end: float) -> float:
        """Until the next request is to be sent, where one can be."""
        until = coming if self._idle and coming < end else inf
        return min(1.0, max(0.0, until - time.perf_counter()))

    def _send(self, due: float) -> None:
        request = self._requests.read(self._size)
        assert request, "no request is left: the file was too short"
        connection = self._idle.pop()
        connection.send(request, due)
        self._busy.add(connection)

    def _receive(self, at_most: float) -> None:
        """Take what has come within so many seconds."""
        readable, _, _ = select.select(list(self._busy), (), (), at_most)
        now = time.perf_counter()
        for connection in readable:
            good = connection.receive()
            if good is None:
                continue
            self.seconds.append(now - connection.due)
            self.failed += not good
            self._busy.remove(connection)
            self._idle.append(connection)


def main() -> None:
    """Send, then tell as wrk's script does."""
    parser = argparse.ArgumentParser(prog="python -m bench.paced", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    opened = [Connection(socket.create_connection(("127.0.0.1", given.port))) for _ in range(given.connections)]
    with given.file.open("rb") as requests:
        paced = Paced(opened, requests, given.size, given.rate)
        took = paced.run(given.seconds)
    times = Times.of(paced.seconds)
    told = {"requests": times.calls, "seconds": took, "p50_ms": times.median, "p99_ms": times.p99}
    sys.stdout.write(json.dumps({**told, "failed": paced.failed}) + "\n")


if __name__ == "__main__":
    main()
