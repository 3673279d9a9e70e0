"""The product from outside: its processes by their Procfile lines, deliveries as the vendor signs them, its rows."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg
import urllib3
from psycopg.rows import dict_row

from service.config import SECRETS, environment
from service.parent_death import die_with_parent
from service.upstream.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.support.ports import free_port
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET = "5e" * 32
API_KEY = "key-of-the-tests"
WEBHOOK_PATH = "/webhooks/headshotpro"
ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

# Nothing listens here (port 9 is `discard`): the upstream of tests that need none.
NOWHERE = "http://127.0.0.1:9/api/v2"


def procfile() -> dict[str, list[str]]:
    """The command line of each process, its program found as a shell with our environment on its PATH would."""
    lines = (line.partition(":") for line in (ROOT / "Procfile").read_text().splitlines())
    return {name: _found(shlex.split(command)) for name, _, command in lines}


def _found(words: list[str]) -> list[str]:
    program = shutil.which(words[0], path=f"{PROGRAMS}{os.pathsep}{environment().get('PATH', '')}")
    assert program, words
    return [program, *words[1:]]


class StartedProcess(NamedTuple):
    """A process that was started.

    Attributes:
        process: it.
        log: the file of what it prints, both streams.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ask it to end, and wait for that: its exit status."""
        self.process.terminate()
        return self.process.wait(15)


class System(AbstractContextManager["System"]):
    """Processes of the Procfile over two servers, ended with the block.

    Every process works in `folder`, so that `processes_in(folder)` finds them and their children.

    Attributes:
        started: all of them, in the order of their starts.

    Args:
        folder: where logs go; it holds no `.env`.
        **settings: the environment that all of them get on top of this process's; None removes a variable.
    """

    def __init__(self, folder: Path, **settings: str | None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings: dict[str, str | None] = {
            # Nothing that the tests' own environment may hold.
            **{f"{name}_FILE": None for name in SECRETS},
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "HEADSHOTPRO_WEBHOOK_SECRET": SECRET,
            "HEADSHOTPRO_API_KEY": API_KEY,
            "HEADSHOTPRO_API_URL": NOWHERE,
            **settings,
        }
        self.started: list[StartedProcess] = []
        self._http = urllib3.PoolManager(retries=False, timeout=15)

    def start(self, role: str) -> StartedProcess:
        """Start a process of the Procfile."""
        return self.run(role, procfile()[role])

    def run(self, name: str, command: Sequence[str]) -> StartedProcess:
        """Start any command in the place of a process of the Procfile."""
        log = self.folder / f"{name}-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                die_with_parent(command, SIGTERM),
                env=environment(**self.settings),
                cwd=self.folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        self.started.append(StartedProcess(process, log))
        return self.started[-1]

    def start_all(self) -> dict[str, StartedProcess]:
        """Start web, worker and clock, and wait until the endpoint answers."""
        started = {role: self.start(role) for role in ("worker", "clock", "web")}
        self.wait_for_web()
        return started

    def wait_for_web(self) -> None:
        """Wait until the endpoint's process answers; not on for one that was started last and has ended."""
        newest = self.started[-1].process
        eventually(lambda: self.get("/livez").status == 200 or newest.poll() is not None)
        assert self.get("/livez").status == 200, self.logs()

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """A GET of the web process; status 0 where no process listens."""
        return self._send("GET", path, None, {})

    def deliver(self, body: bytes) -> urllib3.BaseHTTPResponse:
        """Post a delivery as the vendor would, signed now."""
        return self.post(body, signed(body))

    def post(self, body: Any, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Post anything to the endpoint, in chunks where it is an iterator; status 0 where no process listens."""
        return self._send("POST", WEBHOOK_PATH, body, headers)

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        # When web is asked to end it waits some seconds for the next request of a connection that is kept.
        headers = {**headers, "Connection": "close"}
        try:
            return self._http.request(method, self.url + path, body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            return urllib3.HTTPResponse(str(error).encode(), status=0)

    def logs(self) -> str:
        """The end of what each process printed, for a test that fails."""
        return "\n".join(f"{started.log.name}:\n{started.said[-3000:]}" for started in self.started)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for started in self.started:
            started.process.terminate()
        for started in self.started:
            try:
                started.process.wait(15)
            except subprocess.TimeoutExpired:
                started.process.kill()
                started.process.wait()


def signed(body: bytes, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The headers of a delivery that is signed now, or at a time in Unix seconds."""
    timestamp = int(time.time() if at is None else at)
    return {
        SIGNATURE_HEADER: sign(secret, timestamp, body),
        TIMESTAMP_HEADER: str(timestamp),
        "Content-Type": "application/json",
    }


def new_id() -> str:
    """A model id whose creation time is this second."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


def event_document(model_id: str, event: str = "model.status.updated", **fields: Any) -> dict[str, Any]:
    """A webhook body; `at` (a datetime) is its createdAt, `event_id` its id, the rest goes into `object`."""
    at = fields.pop("at", None) or datetime.now(UTC)
    return {
        "id": fields.pop("event_id", f"evt_{secrets.token_hex(16)}"),
        "event": event,
        "createdAt": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "objectType": "model",
        "object": {"_id": model_id, "status": "active", **fields},
    }


def event_body(model_id: str, event: str = "model.status.updated", **fields: Any) -> bytes:
    """The same as bytes."""
    return json.dumps(event_document(model_id, event, **fields)).encode()


def rows(url: str, query: str, *values: Any) -> list[dict[str, Any]]:
    """The rows of a query with psycopg's placeholders (`%s`)."""
    try:
        return _connection(url).execute(query, values or None).fetchall()
    except psycopg.OperationalError:
        kept = getattr(_kept, "connection", None)
        if kept is None or not kept.closed:
            raise
    # The server was restarted meanwhile: a new connection shows whether it is there.
    return _connection(url).execute(query, values or None).fetchall()


# The last connection of each thread: who looks again and again would spend most of the time on new ones.
_kept = threading.local()


def _connection(url: str) -> psycopg.Connection[dict[str, Any]]:
    kept: psycopg.Connection[dict[str, Any]] | None = getattr(_kept, "connection", None)
    if kept is None or kept.closed or _kept.url != url:
        if kept is not None:
            kept.close()
        kept = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        _kept.connection, _kept.url = kept, url
    return kept


def model_row(url: str, model_id: str) -> dict[str, Any] | None:
    """One row of `models`."""
    found = rows(url, "select * from headshotpro.models where id = %s", model_id)
    return found[0] if found else None
