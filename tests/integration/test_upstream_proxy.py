"""Requests through a proxy: CONNECT for https, the whole URL for http, its login, and what a refusal looks like."""

from __future__ import annotations

import base64
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import UpstreamError, UpstreamUnreachable
from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient
from tests.support.cli import Cli
from tests.support.odd_vendor import KEY, MODEL, OddVendor, RecordedPauses, get, http, odd_vendor
from tests.support.tools import checked, needs

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

LOGIN = "Basic " + base64.b64encode(b"ann:p@ss word").decode()
ORGANIZATION = {"success": True, "organization": {"uid": "org", "name": "Org", "teams": []}}


@pytest.fixture
def proxy() -> Iterator[OddVendor]:
    """A proxy that responds in place of every server; `requests` are those that it got."""
    with odd_vendor(http(200, MODEL)) as running:
        yield running


def address_of(proxy: OddVendor, login: str = "") -> str:
    return proxy.url.removesuffix("/api/v2").replace("http://", f"http://{login}")


def through(proxy: OddVendor, url: str, login: str = "", **more: Any) -> UpstreamClient:
    return UpstreamClient(url, KEY, None, pause=RecordedPauses(), proxy=address_of(proxy, login), **more)


def test_a_plain_request_goes_to_the_proxy_with_its_whole_url(proxy: OddVendor) -> None:
    assert get(through(proxy, "http://vendor.example/api/v2", "ann:p%40ss%20word@")).body.id == "m1"
    head = proxy.requests[0]
    assert head.startswith("GET http://vendor.example/api/v2/organization/models/m1 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: {LOGIN}".lower() in head.lower()


@needs("openssl")
def test_a_secure_request_goes_through_a_tunnel(
    proxy: OddVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
    name = ("-subj", "/CN=vendor.example", "-addext", "subjectAltName=DNS:vendor.example")
    checked("openssl", "req", "-x509", *new_key, *name, "-days", "1", "-out", str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    inside: list[str] = []

    def tunnel(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            inside.append(secure.recv(65536).decode())
            secure.sendall(http(200, MODEL))

    proxy.script(tunnel)
    assert get(through(proxy, "https://vendor.example/api/v2", "ann:p%40ss%20word@")).body.id == "m1"
    assert proxy.requests[0].startswith("CONNECT vendor.example:443 HTTP/1.")
    assert f"Proxy-Authorization: {LOGIN}".lower() in proxy.requests[0].lower()
    assert KEY not in proxy.requests[0]
    assert inside[0].startswith("GET /api/v2/organization/models/m1 HTTP/1.1\r\n")
    assert "proxy-authorization" not in inside[0].lower()


@pytest.mark.parametrize("url", ["http://vendor.example/api/v2", "https://vendor.example/api/v2"])
def test_proxy_that_refuses_login_is_named_without_password(proxy: OddVendor, url: str) -> None:
    proxy.script(http(407, b"<html>", Proxy_Authenticate="Basic"))
    with pytest.raises(UpstreamUnreachable, match=r"(?i)proxy") as raised:
        get(through(proxy, url, "ann:hunter2@"), max_wait=0.0)
    assert "407" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://vendor.example/api/v2", "https://vendor.example/api/v2"])
def test_unavailable_proxy_is_reported_without_its_password(url: str) -> None:
    with odd_vendor(b"") as gone:
        pass
    with pytest.raises(UpstreamUnreachable) as raised:
        # Nobody heard it: even a create is tried again.
        through(gone, url, "ann:hunter2@").create_model("ann@example.com", priority=Priority.REFETCH)
    assert "hunter2" not in str(raised.value)


def test_a_tunnel_that_never_opens_is_given_up(proxy: OddVendor) -> None:
    proxy.script(proxy.hang)
    with pytest.raises(UpstreamError):
        get(through(proxy, "https://vendor.example/api/v2", response_timeout=0.5), max_wait=0.0)


def test_the_variables_reach_every_process(proxy: OddVendor, folder: Path) -> None:
    proxy.script(http(200, ORGANIZATION))
    cli = Cli(folder, HEADSHOTPRO_API_URL="http://vendor.example/api/v2", HEADSHOTPRO_API_KEY=KEY)
    for name in ("HTTP_PROXY", "http_proxy"):
        done = cli.run("doctor", **{name: address_of(proxy, "ann:hunter2@"), "HTTPS_PROXY": "http://nowhere.example:1"})
        assert "belongs to organization org" in done.out, done.err
        assert "hunter2" not in done.out + done.err
    assert len(proxy.requests) == 2
    cli.run(
        "doctor", HTTP_PROXY=address_of(proxy), NO_PROXY=".example", HEADSHOTPRO_API_URL="http://x.example:9/api/v2"
    )
    assert len(proxy.requests) == 2


def test_a_malformed_proxy_ends_a_process_with_one_line(folder: Path) -> None:
    for command in ("doctor", "web", "worker", "clock", "migrate"):
        done = Cli(folder).run(command, HTTPS_PROXY="socks5://ann:hunter2@proxy:1080")
        assert (done.status, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert "HTTPS_PROXY is malformed" in done.err
        assert "hunter2" not in done.err


def test_key_that_no_header_can_hold_ends_process_with_one_line(folder: Path) -> None:
    for command, key in (
        ("doctor", "hun\tter2"),
        ("worker", "hunter2\n"),
        ("web", " hunter2"),
        ("clock", "hunter\u00e9"),
    ):
        done = Cli(folder).run(command, HEADSHOTPRO_API_KEY=key)
        assert (done.status, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert "HEADSHOTPRO_API_KEY is malformed" in done.err
        assert key not in done.err
