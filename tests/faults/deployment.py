"""A whole deployment that may be struck anywhere: its servers, its processes, and their children."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.config import environment, force_wheels
from service.local.servers import Valkey
from tests.support.processes import TEST_TIMEOUT_SECONDS, descendants, eventually, kill, processes_in
from tests.support.servers import crash, new_postgres
from tests.support.system import System

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.local.servers import Postgres
    from tests.support.system import StartedProcess
    from tests.support.vendor import RunningSandbox

# Possible faults: a role and which of its processes, or a server and how it ends.
FAULTS = {
    "web": ("web", "all"),
    "web's master": ("web", "head"),
    "one web process": ("web", "child"),
    "worker": ("worker", "all"),
    "worker's supervisor": ("worker", "head"),
    "drain child": ("worker", "headshotpro-drain"),
    "work child": ("worker", "headshotpro-work"),
    "clock": ("clock", "all"),
    "redis killed": ("redis", "kill"),
    "redis stopped": ("redis", "stop"),
    "postgres killed": ("postgres", "kill"),
    "postgres stopped": ("postgres", "stop"),
}

SETTINGS = {
    "PULL_INTERVAL_SECONDS": "2",
    "HOT_PULL_INTERVAL_SECONDS": "1",
    "DETAIL_BUDGET": "1",
    "WEB_CONCURRENCY": "2",
}


class Deployment:
    """Servers and processes that run.

    Attributes:
        system: the processes.
        postgres: their Postgres.
        valkey: their Redis.
    """

    def __init__(self, system: System, postgres: Postgres, valkey: Valkey, workers: int) -> None:
        self.system = system
        self.postgres = postgres
        self.valkey = valkey
        self._running: dict[str, StartedProcess] = {role: system.start(role) for role in ("web", "worker", "clock")}
        for _ in range(workers - 1):
            system.start("worker")
        wait_for("the endpoint", lambda: system.get("/livez").status == 200)

    def inject_fault(self, fault: str, pause: float) -> bool:
        """Strike one of `FAULTS`, and start it again after a pause; what a parent watches over is left to that.

        Returns:
            Whether there was anything to strike.
        """
        target, manner = FAULTS[fault]
        if target in self._running:
            return self._kill(target, self._targets(target, manner), pause)
        server = self.valkey if target == "redis" else self.postgres
        crash(server) if manner == "kill" else server.stop()
        time.sleep(pause)
        server.boot()
        return True

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the command line, in the same environment."""
        return subprocess.run(
            [sys.executable, "-m", "service.cli", *arguments],
            env=environment(**self.system.settings),
            cwd=self.system.folder,
            capture_output=True,
            text=True,
            timeout=TEST_TIMEOUT_SECONDS,
            check=False,
        )

    def _targets(self, role: str, which: str) -> list[int]:
        head = self._running[role].process.pid
        below = descendants(head)
        if which in ("all", "head", "child"):
            return {"all": [head, *below], "head": [head], "child": below[:1]}[which]
        commands = processes_in(self.system.folder)
        return [pid for pid in below if which in commands.get(pid, "")]

    def _kill(self, role: str, victims: list[int], pause: float) -> bool:
        for pid in victims:
            kill(pid)
        if self._running[role].process.pid in victims:
            self._running[role].process.wait()
            time.sleep(pause)
            self._running[role] = self.system.start(role)
        return bool(victims)


@contextmanager
def deployed(folder: Path, vendor: RunningSandbox, *, workers: int) -> Iterator[Deployment]:
    """A deployment in an empty folder; everything of it has ended with the block."""
    with (
        new_postgres(folder / "postgres", migrated=True, durable=True) as postgres,
        Valkey.start(folder / "valkey", force_wheels=force_wheels()) as valkey,
    ):
        (folder / "system").mkdir()
        urls = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "HEADSHOTPRO_API_URL": vendor.url}
        keys = {"HEADSHOTPRO_API_KEY": vendor.api_key, "HEADSHOTPRO_WEBHOOK_SECRET": vendor.webhook_secret}
        with System(folder / "system", **SETTINGS, **urls, **keys) as system:
            yield Deployment(system, postgres, valkey, workers)
    wait_for("the last process", lambda: not processes_in(folder))


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """The first result of a poll that is not empty."""
    found = eventually(look)
    assert found, f"waited for {what} in vain"
    return found
