"""`make audit` with the real pip-audit and a vulnerability service on this machine: found, clean, absent, ignorant."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests import audit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VULNERABILITY = {
    "id": "PYSEC-2019-217",
    "aliases": ["CVE-2019-10906"],
    "summary": "sandbox escape",
    "modified": "2024-01-01T00:00:00Z",
    "published": "2019-04-07T00:29:00Z",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.10.1"}]}],
        }
    ],
}


@contextmanager
def service(answer: dict[str, Any]) -> Iterator[str]:
    """A service in the form of OSV's that says the same of every package: its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def pinned(folder: Path) -> str:
    path = folder / "requirements.txt"
    path.write_text("jinja2==2.10 --hash=sha256:" + "0" * 64 + "\n")
    return str(path)


def audited(pinned: str, address: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = audit.main(["-r", pinned, "-s", "osv", "--osv-url", address])
    return status, capsys.readouterr().out


def test_a_vulnerability_fails_and_is_named(pinned: str, capsys: pytest.CaptureFixture[str]) -> None:
    with service({"vulns": [VULNERABILITY]}) as address:
        status, words = audited(pinned, address, capsys)
    assert status == 1
    assert words == "audit: jinja2 2.10: PYSEC-2019-217, mended in 2.10.1\n"


def test_nothing_known_passes(pinned: str, capsys: pytest.CaptureFixture[str]) -> None:
    with service({}) as address:
        assert audited(pinned, address, capsys) == (0, "audit: no known vulnerability in 1 of 1 packages\n")


def test_an_absent_service_is_said_in_one_line_and_does_not_fail(
    pinned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing listens on port 9.
    status, words = audited(pinned, "http://127.0.0.1:9/v1/query", capsys)
    assert status == 0
    assert words.startswith("audit: NOT AUDITED")
    assert words.count("\n") == 1


def test_audit_reports_not_audited_when_no_package_is_known() -> None:
    # The error of a registry mirror without vulnerability data.
    skipped = {
        "dependencies": [{"name": "flask", "skip_reason": "not found"}, {"name": "rq", "skip_reason": "not found"}]
    }
    status, words = audit.judge(json.dumps(skipped), "")
    assert status == 0
    assert words.startswith("audit: NOT AUDITED")


def test_what_was_skipped_is_named_beside_what_was_not() -> None:
    mixed = {
        "dependencies": [
            {"name": "flask", "version": "3.1.0", "vulns": []},
            {"name": "private", "skip_reason": "not found"},
        ]
    }
    assert audit.judge(json.dumps(mixed), "") == (
        0,
        "audit: no known vulnerability in 1 of 2 packages; not known to it: private",
    )


def test_a_broken_audit_fails(pinned: str) -> None:
    assert audit.judge("", "ERROR: invalid requirement").status == 1
    assert audit.main(["-r", pinned + ".not-there"]) == 1
