"""A listening socket that parts: who has connected is served, who comes later is not reset but not let in either."""

from __future__ import annotations

import socket
import sys

import pytest

from service.web.listen_backlog import drop_new_handshakes


@pytest.mark.skipif(sys.platform != "linux", reason="packet filters are Linux's")
def test_who_has_connected_is_served_and_who_comes_later_is_let_in_by_the_next() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as early, socket.socket() as late:
        address = listener.getsockname()
        early.connect(address)
        drop_new_handshakes(listener)
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.connect(address)
        served, _ = listener.accept()
        early.sendall(b"hello")
        assert served.recv(10) == b"hello"
        served.sendall(b"good-bye")
        assert early.recv(10) == b"good-bye"
        served.close()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)
