"""Receivers that people copy: that of the documents, and one with npm's library; TLS to a checked address."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from service.config import load_alone
from service.subscriptions import addresses
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.signing import new_secret, signed_headers
from tests.support.markdown import blocks
from tests.support.system import ROOT
from tests.support.tools import checked, found, needs

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

BODY = '{"type":"model.changed","timestamp":"2026-03-04T12:00:00+00:00","data":{"id":7,"row":{"title":"Zoë"}}}'.encode()
NPM_FILES = ROOT / "tests" / "npm"
# The errors of npm when it cannot reach the packages.
OFFLINE = re.compile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH")
NPM_RECEIVER = """
import { createRequire } from "node:module";
const { Webhook } = createRequire(process.argv[1])("standardwebhooks");
let text = "";
for await (const part of process.stdin) text += part;
const results = JSON.parse(text).map(({ secret, body, headers }) => {
  try { return new Webhook(secret).verify(body, headers).type; } catch (error) { return error.message; }
});
console.log(JSON.stringify(results));
"""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> tuple[FlaskClient, str]:
    """The receiver in the documents, and the secret that it knows."""
    (block,) = (one for one in blocks("python") if one.document == "docs/subscriptions.md")
    secret = new_secret()
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    names: dict[str, object] = {"__name__": "receiver"}
    exec(compile(block.text, block.document, "exec"), names)  # noqa: S102 - it is our own document
    app: FlaskClient = names["app"].test_client()  # type: ignore[attr-defined]
    return app, secret


def test_documented_receiver_verifies_deduplicates_and_responds(
    receiver: tuple[FlaskClient, str], capsys: pytest.CaptureFixture[str]
) -> None:
    client, secret = receiver
    headers = signed_headers("msg_1", datetime.now(UTC), BODY, [new_secret(), secret])
    for _ in range(2):
        assert client.post("/hooks", data=BODY, headers=headers).status_code == 204
    assert capsys.readouterr().out.count("model.changed") == 1
    forged = signed_headers("msg_2", datetime.now(UTC), BODY, [new_secret()])
    assert client.post("/hooks", data=BODY, headers=forged).status_code == 500
    assert "model.changed" not in capsys.readouterr().out


@pytest.fixture
def npm_library(tmp_path: Path) -> Path:
    """npm's `standardwebhooks` in the version of the lock file, which takes a second or two to install."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NPM_FILES / name, tmp_path)
    command = [found("npm") or "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if unreachable := OFFLINE.search(done.stderr):
        pytest.skip(f"npm cannot reach its packages ({unreachable[0]})")
    assert done.returncode == 0, done.stderr
    return tmp_path / "node_modules" / "standardwebhooks"


@needs("node", "npm")
def test_receiver_with_the_npm_library_accepts_our_requests(npm_library: Path) -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers("msg_1", datetime.now(UTC), BODY, [new, old])
    sent = [{"secret": secret, "body": BODY.decode(), "headers": headers} for secret in (old, new, new_secret())]
    done = subprocess.run(
        [found("node") or "node", "--input-type=module", "-e", NPM_RECEIVER, str(npm_library)],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == ["model.changed", "model.changed", "No matching signature found"]


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
    ],
)  # fmt: skip
def test_status_acknowledges_though_the_body_is_damaged(rest: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received = b""
                while not received.endswith(BODY) and (part := connection.recv(65536)):
                    received += part
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + rest)

        threading.Thread(target=serve, daemon=True).start()
        client = ReceiverClient(load_alone({"DATABASE_URL": "postgresql://127.0.0.1/x"}, ()), deadline=5)
        outcome = client.send(f"http://127.0.0.1:{server.getsockname()[1]}/", "msg_1", BODY, [new_secret()])
        client.close()
    assert outcome == (200, "", None)


@needs("openssl")
def test_checked_address_is_connected_to_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
    name = ("-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example")
    checked("openssl", "req", "-x509", *new_key, *name, "-days", "1", "-out", str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shown: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: shown.append(name)  # type: ignore[assignment]
    # The first address of the name is closed, so the second one is used.
    monkeypatch.setattr(addresses, "resolve", lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    inside: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secure:
                        received = b""
                        while not received.endswith(BODY) and (part := secure.recv(65536)):
                            received += part
                        inside.append(received.decode())
                        secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        client = ReceiverClient(load_alone({"DATABASE_URL": "postgresql://127.0.0.1/x"}, ()), deadline=5)
        outcome = client.send(f"https://hooks.example:{port}/in?token=1", "msg_1", BODY, [new_secret()])
        other = client.send(f"https://other.example:{port}/", "msg_1", BODY, [new_secret()])
        client.close()
    assert outcome.status == 204, outcome
    assert shown[0] == "hooks.example"
    assert inside[0].startswith("POST /in?token=1 HTTP/1.1\r\n")
    assert f"Host: hooks.example:{port}\r\n" in inside[0]
    # A certificate for another name is refused.
    assert "certificate" in other.error
    assert len(inside) == 1
