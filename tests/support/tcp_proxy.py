"""A TCP address that stays while what is behind it changes, and a line that can be cut without either end noticing."""

from __future__ import annotations

import socket
import threading
from contextlib import AbstractContextManager, suppress
from typing import Self

CHUNK = 65536


class TcpProxy(AbstractContextManager["TcpProxy"]):
    """Passes bytes between whoever connects and a server.

    Attributes:
        port: of 127.0.0.1, where it listens.

    Args:
        target: port of 127.0.0.1 to which it leads.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def retarget(self, target: int) -> None:
        """Lead to another server from the next connection on; those that are there keep theirs."""
        self._target = target

    def cut(self) -> None:
        """From now on nothing comes through, in either direction, and nothing is refused."""
        self._whole.clear()

    def heal(self) -> None:
        """Data that was sent meanwhile arrives now."""
        self._whole.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for end in [self._listener, *self._ends]:
            # Wakes the thread that waits on it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._whole.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._whole.wait()
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        """One direction of one connection, until it ends."""
        with suppress(OSError):
            while data := here.recv(CHUNK):
                self._whole.wait()
                there.sendall(data)
        self._whole.wait()
        for end in (here, there):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
