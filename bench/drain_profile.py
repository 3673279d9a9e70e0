"""Where a drain's time goes: `python -m bench.drain_profile [--events 20000] [--batch 500]`.

A drain in this process, over servers of its own: CPU of the drain and of its session in Postgres for an event, how
long each statement took, WAL; then the same once more under cProfile, whose own cost makes its times longer.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import event

from bench.deliveries import Organization
from service.broker.client import connect_redis
from service.broker.inbox import Delivery, Inbox
from service.local.servers import Postgres, Valkey
from service.mirror.drain import drain_batch
from service.storage import database
from service.storage.migrations.schema import migrate
from tests.support.system import rows

if TYPE_CHECKING:
    from sqlalchemy import Engine

TOLERANCE = timedelta(seconds=300)
LONGEST_SHOWN = 60


class StatementTimer:
    """Times every statement of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.seconds: Counter[str] = Counter()
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, connection: Any, *_: Any) -> None:
        connection.info["began"] = time.perf_counter()

    def _after(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        words = " ".join(statement.split())[:LONGEST_SHOWN]
        self.seconds[words] += time.perf_counter() - connection.info["began"]


def entries(bodies: list[bytes]) -> list[Delivery]:
    """The stream as entries of the inbox."""
    now = datetime.now(UTC)
    return [Delivery(body, now, now, f"{number:016x}", entry_id=f"{number}-1") for number, body in enumerate(bodies, 1)]


def drain(engine: Engine, box: Inbox, taken: list[Delivery], batch: int) -> None:
    """Apply them all."""
    for begin in range(0, len(taken), batch):
        drain_batch(engine, box, taken[begin : begin + batch], TOLERANCE)


def backend_seconds(pid: int) -> float:
    """CPU seconds of a process so far."""
    figures = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


def measure(engine: Engine, box: Inbox, taken: list[Delivery], batch: int, url: str) -> None:
    """Drain once and print what it took."""
    watch = StatementTimer(engine)
    with engine.connect() as connection:
        (pid,) = connection.exec_driver_sql("select pg_backend_pid()").one()
    (lsn,) = rows(url, "select pg_current_wal_insert_lsn()::text as lsn")
    before = time.perf_counter(), time.process_time(), backend_seconds(pid)
    drain(engine, box, taken, batch)
    after = time.perf_counter(), time.process_time(), backend_seconds(pid)
    wall, own, backend = (1e6 * (end - begin) / len(taken) for begin, end in zip(before, after, strict=True))
    (wal,) = rows(url, f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{lsn['lsn']}')::bigint as bytes")
    print(f"an event: {wall:.0f} µs; CPU of the drain {own:.0f} µs, of Postgres {backend:.0f} µs; WAL", end=" ")
    print(f"{wal['bytes'] // len(taken)} bytes")
    for statement, seconds in watch.seconds.most_common():
        print(f"{1e6 * seconds / len(taken):8.1f} µs  {statement}")


def main() -> None:
    """Measure, then profile."""
    parser = argparse.ArgumentParser(prog="python -m bench.drain_profile", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=500)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    organization = Organization(given.models)
    taken = entries(organization.stream(given.events))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey"))
        migrate(postgres.url)
        engine = database.connect(postgres.url, pool_size=1)
        box = Inbox(connect_redis(valkey.url))
        organization.fill(postgres.url)
        measure(engine, box, taken, given.batch, postgres.url)
        organization.fill(postgres.url)
        with cProfile.Profile() as profile:
            drain(engine, box, taken, given.batch)
        engine.dispose()
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
