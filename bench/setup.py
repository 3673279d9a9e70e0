"""How a bench starts servers and processes, and how it measures their cost."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGTERM
from typing import Any, Literal, NamedTuple, Self

import psutil
import psycopg

from service.broker.client import connect_redis
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support import sandboxes
from tests.support.processes import processes_in
from tests.support.sandboxes import Sandbox
from tests.support.servers import QuickPostgres
from tests.support.system import ROOT, System

# A part of a command line, and the kind of process that has it.
KINDS = {
    "headshotpro-drain": "worker: child for events",
    "headshotpro-work": "worker: child for other work",
    " clock": "clock",
    " web": "web",
    " worker": "worker: parent",
    "bench.pull_side": "pull",
    "postgres": "Postgres",
    "valkey": "Redis",
    "redis": "Redis",
}
DEAD = "select coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables"
BYTES_OF_WAL = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


class Servers(NamedTuple):
    """A Postgres with our schema and a Redis, in one folder."""

    folder: Path
    postgres: Postgres
    valkey: Valkey
    redis: Any

    def started(self, stack: ExitStack, *roles: str, **settings: str) -> System:
        """A system over these servers with some of its processes started; web responds already."""
        defaults = {"DATABASE_URL": self.postgres.url, "REDIS_URL": self.valkey.url, "WEB_CONCURRENCY": "2"}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        system = stack.enter_context(System(folder, **{**defaults, "LOG_LEVEL": "warning", **settings}))
        for role in roles:
            system.start(role)
        if "web" in roles:
            system.wait_for_web()
        return system


@contextmanager
def servers(*, sync: Literal["always", "everysec"] = "always", durable: bool = True) -> Iterator[Servers]:
    """Servers for a bench, in a folder that is deleted at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="hm-", ignore_cleanup_errors=True) as folder,
        (Postgres if durable else QuickPostgres).start(Path(folder) / "postgres") as postgres,
        Valkey.start(Path(folder) / "valkey", sync=sync) as valkey,
        connect_redis(valkey.url, timeout=60) as redis,
    ):
        migrate(postgres.url)
        yield Servers(Path(folder), postgres, valkey, redis)


@contextmanager
def sandbox(models: int, rate: int = 0) -> Iterator[Sandbox]:
    """A vendor in which nothing happens by itself, with a limit of requests a minute; 0 sets none."""
    with ExitStack() as stack:
        running = sandboxes.start({"models": models, "quiet": True, "rate": rate})
        stack.callback(running.end)
        yield running


def run_side(command: list[Any]) -> dict[str, Any]:
    """Run one side of a comparison as a process of its own: the JSON of its last line."""
    printed = subprocess.check_output(die_with_parent(command, SIGTERM), text=True, cwd=ROOT)
    return dict(json.loads(printed.splitlines()[-1]))


def pull(place: Servers, upstream: Sandbox, *, database: str | None = None, share: float = 1) -> dict[str, Any]:
    """Run a full pull in a process of its own (`bench.pull_side`)."""
    given = [upstream.url, upstream.api_key, database or place.postgres.url, place.valkey.url, str(share)]
    return run_side([sys.executable, "-m", "bench.pull_side", *given])


def say(text: str) -> None:
    """Report progress on stderr; stdout is for the result."""
    print(f"  {text}", file=sys.stderr, flush=True)


def value(url: str, query: str) -> Any:
    """The one value that a query returns; None without a row."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def kind_of(command: str) -> str | None:
    return next((kind for part, kind in KINDS.items() if part in command), None)


def peak_mb(pid: int) -> float:
    """The largest resident size that a process ever had, in MB (`VmHWM`, proc_pid_status(5))."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return 0.0


def by_kind(folder: Path) -> dict[str, float]:
    """The largest peak in MB of each kind of process that works in a folder."""
    found: dict[str, float] = {}
    for pid, command in processes_in(folder).items():
        if kind := kind_of(command):
            found[kind] = max(found.get(kind, 0.0), peak_mb(pid))
    return found


def cpu_seconds(pid: int) -> float:
    """Seconds of a core of a process and of its children that ended."""
    with suppress(psutil.NoSuchProcess):
        return sum(psutil.Process(pid).cpu_times()[:4])
    return 0.0


def cpu_of_folder(*folders: Path) -> float:
    """Seconds of a core of every process that works in one of some folders."""
    return sum(cpu_seconds(pid) for folder in folders for pid in processes_in(folder))


class Cost(NamedTuple):
    """What work costs both servers: bytes of WAL, dead tuples, commands and round trips of Redis, CPU seconds."""

    wal: int
    dead: int
    commands: int
    reads: int
    cpu: float


class Meter:
    """Measures a block of work; `cost` is known at its end."""

    cost: Cost

    def __init__(self, place: Servers, url: str | None = None) -> None:
        self._place, self._url = place, url or place.postgres.url
        self._folders = place.postgres.folder.path, place.valkey.folder.path

    def __enter__(self) -> Self:
        value(self._url, "select pg_stat_reset()")
        self._before = value(self._url, BYTES_OF_WAL), cpu_of_folder(*self._folders)
        self._place.redis.config_resetstat()
        return self

    def __exit__(self, *_error: object) -> None:
        commands = sum(stat["calls"] for stat in self._place.redis.info("commandstats").values())
        reads = self._place.redis.info("stats").get("total_reads_processed", 0)
        cpu = cpu_of_folder(*self._folders) - self._before[1]
        self.cost = Cost(value(self._url, BYTES_OF_WAL) - self._before[0], value(self._url, DEAD), commands, reads, cpu)
