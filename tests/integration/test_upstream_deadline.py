"""One deadline for a whole response: servers that send slowly, without end, or nothing, at each step of a request."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from service.errors import UpstreamError, UpstreamMalformed, UpstreamTimeout
from service.http_client import HttpClient, RequestFailed
from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient
from tests.support.odd_vendor import KEY, MODEL, OddVendor, RecordedPauses, client_of, get, http, odd_vendor, repeated
from tests.support.processes import eventually
from tests.support.tools import checked, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REFETCH = Priority.REFETCH
# Long enough for a busy machine, and far below the time that each of these servers would take.
DEADLINE = 1.0
BOUND = 8.0


@pytest.fixture
def vendor() -> Iterator[OddVendor]:
    with odd_vendor(http(200, MODEL)) as running:
        yield running


@contextmanager
def in_time() -> Iterator[None]:
    """Raises where the block took longer than a deadline can explain, or left a thread of its own behind."""
    earlier, before = outgoing(), time.monotonic()
    yield
    assert time.monotonic() - before < BOUND
    assert eventually(lambda: outgoing() <= earlier, BOUND)


def outgoing() -> set[threading.Thread]:
    """The threads that send a request, those of earlier tests included."""
    return {thread for thread in threading.enumerate() if thread.name == "outgoing"}


@pytest.mark.parametrize(
    "answer",
    [
        repeated(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", 0.05),
        repeated(b"HTTP/1.1 200 OK\r\n", b"X-Line: 1\r\n", 0.05),
        repeated(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
        repeated(b"", b"H", 0.05),
        repeated(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" ", 0.05),
        repeated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
        repeated(b"HTTP/1.0 200 OK\r\n\r\n", b" ", 0.05),
    ],
    ids=["header", "headers", "100 continue", "status line", "body", "chunks", "no length"],
)
def test_a_response_that_trickles_ends_at_the_deadline(
    vendor: OddVendor, answer: Callable[[socket.socket], None]
) -> None:
    vendor.script(answer)
    with in_time(), pytest.raises(UpstreamTimeout):
        get(client_of(vendor, response_timeout=DEADLINE), max_wait=0.0)


@pytest.mark.parametrize(
    "answer",
    [
        repeated(b"HTTP/1.1 200 OK\r\n", b"X-Line: 1\r\n"),
        repeated(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 4096),
        # Python 3.14 counts them and gives up after 100; before, the deadline ends them.
        repeated(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        repeated(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
        repeated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10\r\n" + b" " * 16 + b"\r\n"),
    ],
    ids=["header lines", "one header", "100 continue", "body", "chunks"],
)
def test_a_response_without_end_is_given_up(vendor: OddVendor, answer: Callable[[socket.socket], None]) -> None:
    vendor.script(answer)
    with in_time(), pytest.raises(UpstreamError):
        get(client_of(vendor, response_timeout=DEADLINE), max_wait=0.0)


def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(vendor: OddVendor) -> None:
    bomb = gzip.compress(b" " * (400 * 1024 * 1024), 1)
    vendor.script(http(200, bomb, Content_Encoding="gzip"))
    with in_time(), pytest.raises(UpstreamMalformed, match="larger"):
        get(client_of(vendor, response_timeout=BOUND), max_wait=0.0)


def test_a_create_that_trickles_is_not_sent_twice(vendor: OddVendor) -> None:
    vendor.script(repeated(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", 0.05))
    with in_time(), pytest.raises(UpstreamTimeout):
        client_of(vendor, response_timeout=DEADLINE).create_model("ann@example.com", priority=REFETCH)
    assert len(vendor.requests) == 1


def test_a_slow_response_within_the_deadline_is_read(vendor: OddVendor) -> None:
    def send(connection: socket.socket) -> None:
        for place in range(0, len(answer), 16):
            connection.sendall(answer[place : place + 16])
            time.sleep(0.01)
        connection.close()

    answer = http(200, MODEL)
    vendor.script(send)
    assert get(client_of(vendor, response_timeout=BOUND)).body.id == "m1"


@contextmanager
def tls_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does what `serve` does with its first connection; the URL claims TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/api/v2"
        # The client has hung up by now.
        thread.join(BOUND)
        assert not thread.is_alive()


@pytest.mark.parametrize("pause", [None, 0.05], ids=["silent", "trickling"])
def test_a_handshake_that_never_ends_is_given_up(pause: float | None) -> None:
    def serve(connection: socket.socket) -> None:
        # One long handshake record, a byte at a time.
        connection.sendall(b"\x16\x03\x03\x40\x00")
        while pause is None and connection.recv(4096):
            pass
        while pause is not None:
            connection.sendall(b"\x02")
            time.sleep(pause)

    with tls_server(serve) as url:
        client = UpstreamClient(url, KEY, None, pause=RecordedPauses(), connect_timeout=30.0, response_timeout=DEADLINE)
        with in_time(), pytest.raises(UpstreamTimeout):
            get(client, max_wait=0.0)


@pytest.fixture
def tls_files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that it signed itself, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
    checked("openssl", "req", "-x509", *new_key, "-subj", "/CN=127.0.0.1", "-days", "1", "-out", str(certificate))
    return certificate, key


@needs("openssl")
def test_a_server_whose_certificate_nobody_signed_is_refused(tls_files: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_files)

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True).close()

    with tls_server(serve) as url, pytest.raises(UpstreamError, match="certificate"):
        get(UpstreamClient(url, KEY, None, pause=RecordedPauses()), max_wait=0.0)


def test_a_name_that_is_never_resolved_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def resolve(*_asked: object) -> list[object]:
        answered.wait(BOUND)
        raise socket.gaierror("it came too late")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = UpstreamClient("http://vendor.example/api/v2", KEY, None, pause=RecordedPauses(), response_timeout=0.2)
    earlier = outgoing()
    with in_time():
        # Nobody heard it, so even a create is tried again.
        with pytest.raises(UpstreamTimeout):
            client.create_model("ann@example.com", priority=REFETCH)
        assert len(outgoing() - earlier) == 4
        answered.set()


def test_a_name_that_is_resolved_too_late_sends_nothing(vendor: OddVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    resolve = socket.getaddrinfo

    def late(*asked: object) -> object:
        answered.wait(BOUND)
        return resolve(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with in_time():
        with pytest.raises(UpstreamTimeout):
            client_of(vendor, response_timeout=0.2).create_model("ann@example.com", priority=REFETCH)
        answered.set()
    assert vendor.requests == []


def test_a_slow_check_prolongs_no_request(vendor: OddVendor) -> None:
    """It counted steps of a quarter of a second, and not the time that each check took."""
    vendor.script(repeated(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", 0.05))
    client = HttpClient(deadline=2.0, connect_timeout=5.0, max_body_bytes=100, proxy=None)
    checks: list[None] = []

    def check() -> None:
        checks.append(time.sleep(0.5))

    with pytest.raises(RequestFailed, match="within 2 s"):
        client.send("GET", vendor.url, {}, check=check)
    # As many as begin within two seconds, fewer on a busy machine. Counted in steps, they were eight.
    assert 0 < len(checks) <= 4
