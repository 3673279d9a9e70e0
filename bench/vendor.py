"""The sandbox's list, rendered beforehand: what a page costs is then the client's, not the vendor's.

`python -m bench.vendor --models 100000` prints one line of JSON like the sandbox. It serves the sandbox's own
people in the sandbox's form, with its headers, from memory: 0.1 ms a page where the sandbox takes 1.4.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from argparse import ArgumentParser
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from signal import SIGTERM
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec

from service.local.sandbox.account import new_organization
from service.local.sandbox.model import row
from service.local.sandbox.people import population
from service.parent_death import die_with_parent
from tests.conftest import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "/api/v2/organization"
KEY = "key-of-the-bench"
SECRET = "secret-of-the-bench"
UNLIMITED = 1_000_000
# People are made in parts, so that a million of them need little more memory than their pages.
PART = 100_000


class Pages:
    """Every answer of the list."""

    def __init__(self, models: int) -> None:
        self._organization = new_organization(Random(1))
        rendered: list[tuple[str, bytes]] = []
        now = int(datetime.now(UTC).timestamp() * 1000)
        for number, begin in enumerate(range(0, models, PART)):
            people = population(min(PART, models - begin), self._organization, Random(number), now=now, speed=1.0)
            teams = self._organization.team_names
            rendered.extend((model.key, msgspec.json.encode(row(model, teams))) for model in people)
        rendered.sort(reverse=True)
        self._rows = [one for _, one in rendered]

    def answer(self, target: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        url = urlsplit(target)
        if url.path == PREFIX:
            shown = {"uid": self._organization.uid, "name": self._organization.name, "teams": []}
            return 200, msgspec.json.encode({"success": True, "organization": shown})
        if url.path != f"{PREFIX}/models":
            return 404, b'{"success":false,"error":"Model not found","code":"NOT_FOUND"}'
        asked = parse_qs(url.query)
        return 200, self._page(int(asked.get("offset", ["0"])[0]), min(int(asked.get("limit", ["50"])[0]), 200))

    def _page(self, offset: int, limit: int) -> bytes:
        total = len(self._rows)
        more = "true" if offset + limit < total else "false"
        rows = b",".join(self._rows[offset : offset + limit])
        tail = f'],"pagination":{{"total":{total},"limit":{limit},"offset":{offset},"hasMore":{more}}}}}'
        return b'{"success":true,"models":[' + rows + tail.encode()


def _head(status: int, length: int) -> bytes:
    now = datetime.now(UTC)
    reset = (now + timedelta(minutes=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return (
        f"HTTP/1.1 {status} X\r\nDate: {format_datetime(now, usegmt=True)}\r\nContent-Type: application/json\r\n"
        f"X-RateLimit-Limit: {UNLIMITED}\r\nX-RateLimit-Remaining: {UNLIMITED - 1}\r\nX-RateLimit-Reset: {reset}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def _serve_connection(connection: socket.socket, pages: Pages) -> None:
    """Answer the requests of one connection, one after another."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as reader:
        while line := reader.readline():
            while reader.readline().strip():
                pass
            status, body = pages.answer(line.split()[1].decode())
            connection.sendall(_head(status, len(body)) + body)


def main() -> None:
    """Render, say where, serve until the parent ends."""
    parser = ArgumentParser(prog="python -m bench.vendor", description=__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    given = parser.parse_args()
    pages = Pages(given.models)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/api/v2"
        print(json.dumps({"url": url, "api_key": KEY, "webhook_secret": SECRET}), flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_connection, args=(connection, pages), daemon=True).start()


@contextmanager
def vendor(models: int, *arguments: str, module: str = "bench.vendor") -> Iterator[Sandbox]:
    """A vendor of so many models in a process of its own: this one, or the sandbox under its module's name."""
    command = [sys.executable, "-m", module, "--models", str(models), *arguments]
    with subprocess.Popen(die_with_parent(command, SIGTERM), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        control = told["url"].removesuffix("/api/v2") + "/_sandbox"
        try:
            yield Sandbox(told["url"], told["api_key"], told["webhook_secret"], control, process)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
