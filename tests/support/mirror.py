"""A mirror in a test's hands: one deployment against a sandbox, driven step by step, its tables beside the truth.

A test calls the workers' jobs itself; only the waiting for jobs is left out.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from werkzeug.serving import make_server

from service.config import SECRETS, Settings, environment
from service.errors import Stopping
from service.mirror import drain as draining
from service.mirror.batches import BATCH_SIZE
from service.mirror.pull import advance
from service.mirror.pull_slice import FULL
from service.mirror.refetch import refetch
from service.parent_death import die_with_parent
from service.runtime import Runtime
from service.upstream import headers
from service.upstream.headers import MAX_SKEW
from service.web import create_app
from tests.support.processes import eventually
from tests.support.system import WEBHOOK_PATH
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sandbox

Row = dict[str, Any]
StartMirror = Callable[..., "Mirror"]

LIST = "/organization/models"
SINGLE = "/organization/models/:modelId"

# The columns that each source fills, named as the vendor names them but for the spelling.
LISTED = (
    "uid", "email", "title", "status", "team_id", "team_name", "is_development", "created_at", "finished_at",
)  # fmt: skip
DETAILS = ("photo_count", "favorite_photo_id")


class Mirror:
    """One deployment's settings, connections and rows.

    Attributes:
        vendor: the sandbox, seen past our client.
        settings: of this deployment.
        runtime: of one of its processes.
    """

    def __init__(self, running: Sandbox, database_url: str, redis_url: str, **settings: Any) -> None:
        self.vendor = SandboxClient(running)
        self.settings = Settings(
            **{
                "database_url": database_url,
                "redis_url": redis_url,
                "headshotpro_api_url": running.url,
                "headshotpro_api_key": running.api_key,
                "headshotpro_webhook_secret": running.webhook_secret,
                **settings,
            }
        )
        self.runtime = Runtime.build(self.settings)
        self._connection = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        self._runtimes = [self.runtime]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ahead = 0.0
        self._endpoint: Any = None

    def another(self) -> Runtime:
        """Another process of the same deployment."""
        self._runtimes.append(Runtime.build(self.settings))
        return self._runtimes[-1]

    @property
    def variables(self) -> dict[str, str | None]:
        """The deployment's settings as its processes get them."""
        names = (*SECRETS, "HEADSHOTPRO_API_URL")
        return {name: getattr(self.settings, name.lower()) for name in names}

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """A process of the deployment, ended with the test: `-m` and a module. Its output is not kept."""
        self._processes.append(
            subprocess.Popen(
                die_with_parent([sys.executable, *arguments], SIGTERM),
                cwd=folder,
                env=environment(**{f"{name}_FILE": None for name in SECRETS}, **self.variables),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return self._processes[-1]

    def close(self) -> None:
        headers.MAX_SKEW = MAX_SKEW
        for process in self._processes:
            process.kill()
            process.wait()
        if self._endpoint is not None:
            self._endpoint.shutdown()
            self._endpoint.server_close()
        self._connection.close()
        for runtime in self._runtimes:
            runtime.engine.dispose()
            # A timer may send counts at this moment: its connection stays open.
            runtime.redis.connection_pool.disconnect(inuse_connections=False)

    # --- our side

    def sql(self, query: str, *values: object) -> list[Row]:
        """The rows of a query, on a connection beside those of the code under test."""
        cursor = self._connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def model(self, model_id: str) -> Row:
        """A model's row."""
        (row,) = self.sql("select * from headshotpro.models where id = %s", model_id)
        return row

    def changes(self, model_id: str) -> list[Row]:
        """A model's history, oldest first."""
        return self.sql("select * from headshotpro.model_changes where model_id = %s order by id", model_id)

    def refetch_requests(self) -> dict[str, Row]:
        """The open questions by model."""
        return {row["model_id"]: row for row in self.sql("select * from headshotpro.refetch_requests")}

    def versions(self) -> list[Row]:
        """Which transaction wrote each row of `models`, and how many rows `model_changes` has."""
        history = self.sql("select count(*) from headshotpro.model_changes")
        return history + self.sql("select id, xmin::text, updated_at from headshotpro.models order by id")

    def slice(
        self,
        kind: str = FULL,
        seconds: float = 30.0,
        *,
        runtime: Runtime | None = None,
        interval: float = 0.0,
        wake: bool = False,
        between: Callable[[], object] | None = None,
    ) -> int | None:
        """One slice of a pull, as a job does it; `between` is called after each page, before the next is read."""

        def progress(_met: int, _total: int) -> None:
            if between:
                between()

        pull_context = (runtime or self.runtime).pull_context(progress)
        return advance(replace(pull_context, ahead=1) if between else pull_context, kind, interval, seconds, wake=wake)

    def pull(self, kind: str = FULL, between: Callable[[], object] | None = None, seconds: float = 30.0) -> Row:
        """A pull to its end: its row."""
        deadline = time.monotonic() + 60
        pull_id = self.slice(kind, seconds, between=between)
        while time.monotonic() < deadline:
            (row,) = self.sql("select * from headshotpro.pulls where id = %s", pull_id)
            if row["status"] != "running":
                return row
            if self.slice(kind, seconds, between=between) is None:
                time.sleep(0.05)
        raise AssertionError(f"the pull did not end: {row}")

    def read_pages(self, number: int) -> None:
        """Begin a full pull and read some of its pages; then the process that does it is asked to stop."""
        pages = iter(range(1, number))

        def stop() -> None:
            if next(pages, None) is None:
                raise Stopping

        with suppress(Stopping):
            self.slice(between=stop)
        self.expire_leases()

    def expire_leases(self) -> None:
        """Let the lease of every running pull end now."""
        self.sql("update headshotpro.pull_checkpoints set leased_until = now()")

    def refetch(self) -> None:
        """Ask the questions that are due."""
        refetch(self.runtime.engine, self.runtime.client, 20)

    def make_refetches_due(self) -> None:
        """Let the time come at which the open questions may be asked."""
        self.sql("update headshotpro.refetch_requests set due_at = now()")

    def enable_webhooks(self) -> None:
        """Let the vendor's webhooks in."""
        self._endpoint = make_server("127.0.0.1", 0, create_app(self.settings), threaded=True)
        threading.Thread(target=self._endpoint.serve_forever, daemon=True).start()
        self.vendor.control("POST", "/webhook", {"url": f"http://127.0.0.1:{self._endpoint.server_port}{WEBHOOK_PATH}"})

    def apply_webhooks(self) -> None:
        """Wait until the vendor has delivered everything, then apply it."""
        assert eventually(lambda: self.vendor.control("GET", "/deliveries")["waiting"] == 0)
        inbox = self.runtime.inbox
        while entries := inbox.read(BATCH_SIZE, 0):
            draining.drain_batch(self.runtime.engine, inbox, entries, self.runtime.tolerance)

    # --- the vendor's side

    def truth(self) -> dict[str, Row]:
        """Every model as it truly is, by id."""
        return {model["id"]: model for model in self.vendor.control("GET", "/models")}

    def live_ids(self) -> set[str]:
        """Ids of the models that are there."""
        return {model_id for model_id, model in self.truth().items() if _lives(model)}

    def create(self, number: int = 1, **fields: Any) -> list[Row]:
        """New models, without a word unless `events` is true."""
        return list(self.vendor.control("POST", "/models", {"n": number, **fields}))

    def change(self, model_id: str, **fields: Any) -> None:
        """Other fields of a model, without a word unless `events` is true."""
        self.vendor.control("PATCH", f"/models/{model_id}", fields)

    def vanish(self, *model_ids: str) -> None:
        """Let models go without a word."""
        for model_id in model_ids:
            self.vendor.control("DELETE", f"/models/{model_id}")

    def set_switches(self, **switches: Any) -> None:
        """Turn some of the sandbox's switches."""
        self.vendor.control("POST", "/hostile", switches)

    def advance_vendor_clock(self, seconds: float = 10.0) -> None:
        """Let the vendor's clock jump ahead: what follows is surely younger than all before.

        It represents time that passes on both sides, so the client has to believe it, however far it jumps.
        """
        self._ahead += seconds
        headers.MAX_SKEW = MAX_SKEW + timedelta(seconds=self._ahead)
        self.set_switches(skew=self._ahead)

    def request_counts(self, route: str = LIST) -> Counter[int]:
        """How often a route was asked, by the status of the answer; 0 is a connection that was dropped."""
        counted = self.vendor.control("GET", "/requests")["requests"]
        return Counter({row["status"]: row["count"] for row in counted if row["route"] == route})

    def forget_requests(self) -> None:
        self.vendor.control("DELETE", "/requests")

    # --- both

    def differences(self, columns: Sequence[str] = LISTED, ids: set[str] | None = None) -> list[str]:
        """Where the mirror is not the truth, field by field.

        Args:
            columns: those that are compared.
            ids: the models that are compared; all by default.
        """
        truth = self.truth()
        mirrored = {row["id"]: row for row in self.sql("select * from headshotpro.models")}
        compared = truth.keys() | mirrored.keys() if ids is None else ids
        found = [_difference(truth.get(one), mirrored.get(one), columns) for one in sorted(compared)]
        return [words for words in found if words]


def _lives(model: Row) -> bool:
    return not model["vanished"] and model["status"] != "deleted"


def _difference(model: Row | None, row: Row | None, columns: Sequence[str]) -> str:
    """The differences between one model and its row; empty where they agree."""
    if model is None:
        return f"{row} is in the mirror alone"
    if not _lives(model):
        return (
            f"{model['id']} was deleted, the mirror has {row['status']}" if row and row["status"] != "deleted" else ""
        )
    if row is None:
        return f"{model['id']} is missing"
    pairs = {name: (_value(name, model), row[name]) for name in columns}
    wrong = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return f"{model['id']}: (truth, mirror) {wrong}" if wrong else ""


def _value(column: str, model: Row) -> Any:
    head, *tail = column.split("_")
    value = model[head + "".join(word.capitalize() for word in tail)]
    return datetime.fromisoformat(value) if value and column.endswith("_at") else value


def open_rows(here: Mirror) -> list[Row]:
    """What is set aside and not well again, oldest first."""
    return here.sql("select * from headshotpro.set_aside where resolved_at is null order by id")


def held_mirror(mirror: StartMirror) -> tuple[Mirror, int]:
    """A mirror with a pull that is held for thirty models, of which the vendor knows none."""
    here = mirror(models=60)
    here.pull()
    here.vanish(*sorted(here.live_ids())[:30])
    here.advance_vendor_clock()
    pull = here.pull()
    assert pull["status"] == "held"
    return here, int(pull["id"])
