"""Full pulls: first and unchanged, beside what no pull can beat and what dlt does.

`python -m bench.pulls [--models 100000] [--rounds 3]`. The vendor serves pages that were rendered beforehand
(`bench.vendor`), so that the sides are measured and not the sandbox. Each side is a process of its own; what is
timed begins after its imports. A peer that is not installed (`make bench-peers`) is said to be missing. Prints its part
of `RESULTS.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import urllib3

from bench.alternating import run
from bench.measure import Spread, Times, ratio
from bench.meters import Cost, Meter
from bench.report import Report
from bench.vendor import vendor
from service.broker.client import connect_redis
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from tests.support.system import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Sandbox

DLT = ROOT / ".bench" / "bin" / "python"
DLT_SCRIPT = ROOT / "tests" / "bench" / "peers" / "dlt_pull.py"

FETCH, COPY, FIRST, AGAIN = "fetch and decode", "fetch, decode, COPY", "first pull", "unchanged pull"
# How dlt is run: name, way, file format, disposition. Merge keeps rows by their key; replace loads a table anew.
STOCK = "dlt as its documentation begins"
WAYS = {
    STOCK: ("stock", None, "merge"),
    "dlt, Arrow and CSV": ("fast", "csv", "replace"),
    "dlt, Arrow, CSV and threads": ("threads", "csv", "replace"),
}
REPEATED = "{}, again"
SEEN_A_PAGE = 200
# Rows of the tables that an unchanged pull must not write.
WRITTEN = """
    select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables
    where schemaname = 'headshotpro' and relname in ('models', 'model_changes')
"""


class SideResult(NamedTuple):
    """One round of one side: its own figures, and its cost to the servers."""

    told: dict[str, Any]
    cost: Cost
    written: int


class BenchSetup:
    """Servers, and the sides that play on them; in each round on databases of their own.

    Attributes:
        turns: what each side did last.
    """

    def __init__(self, folder: Path, postgres: Postgres, valkey: Valkey, shop: Sandbox) -> None:
        self._folder = folder
        self._postgres = postgres
        self._valkey = valkey
        self._client: Any = connect_redis(valkey.url, timeout=60)
        self._shop = shop
        self._round = 0
        self.turns: dict[str, SideResult] = {}

    def round(self) -> dict[str, float]:
        """Every side once; seconds by side."""
        self._round += 1
        sides = [self._ours, self._floors, self._peers]
        taken: dict[str, float] = {}
        for side in sides if self._round % 2 else reversed(sides):
            taken.update(side())
        return taken

    def _ours(self) -> dict[str, float]:
        self._client.flushall()
        url = self._database("ours")
        migrate(url)
        return {FIRST: self._mine(FIRST, "pull", url), AGAIN: self._mine(AGAIN, "pull", url)}

    def _floors(self) -> dict[str, float]:
        url = self._database("floor")
        return {FETCH: self._mine(FETCH, "fetch", url), COPY: self._mine(COPY, "copy", url)}

    def _peers(self) -> dict[str, float]:
        taken: dict[str, float] = {}
        for name, way in WAYS.items() if DLT.exists() else ():
            url, folder = self._database(way[0]), self._folder / f"{way[0]}{self._round}"
            for told in (name, REPEATED.format(name)):
                taken[told] = self._dlt(told, way, url, folder)
        return taken

    def _mine(self, name: str, side: str, url: str) -> float:
        shop = self._shop
        given = ["--url", shop.url, "--key", shop.api_key, "--database", url, "--redis", self._valkey.url]
        return self._turn(name, [sys.executable, "-m", "bench.pull_sides", side, *given], url)

    def _dlt(self, name: str, way: tuple[str, str | None, str], url: str, folder: Path) -> float:
        kind, form, disposition = way
        given = ["--url", self._shop.url, "--key", self._shop.api_key, "--database", url, "--folder", str(folder)]
        given += ["--way", kind, "--disposition", disposition, *(["--format", form] if form else [])]
        return self._turn(name, [str(DLT), str(DLT_SCRIPT), *given], url)

    def _turn(self, name: str, command: list[str], url: str) -> float:
        print(f"pulls: {name}", file=sys.stderr, flush=True)
        meter = Meter(url, self._client)
        told = run(command, meter, ROOT)
        # Left to autovacuum, this would be done in a later turn, on the same two processors.
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        self.turns[name] = SideResult(told, meter.cost, self._sql(url, WRITTEN))
        return float(told["seconds"])

    def _database(self, name: str) -> str:
        """A new and empty database; of the round before nothing is left that the server would still work on."""
        with psycopg.connect(self._postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"drop database if exists {name}{self._round - 1} with (force)".encode())
            connection.execute(f"create database {name}{self._round}".encode())
            connection.execute("checkpoint")
        return self._postgres.url_of(f"{name}{self._round}")

    @staticmethod
    def _sql(url: str, query: str) -> int:
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def page_cost(shop: Sandbox, models: int) -> tuple[Times, float]:
    """What a page takes from request to answer, and of that the vendor's own CPU, in ms."""
    pool = urllib3.PoolManager(maxsize=1, retries=False)
    headers = {"Authorization": f"Bearer {shop.api_key}"}
    taken, before = [], _cpu(shop.process.pid)
    for number in range(200):
        url = f"{shop.url}/organization/models?limit=200&offset={number * 7919 % models}"
        began = time.perf_counter()
        assert pool.request("GET", url, headers=headers).status == 200
        taken.append(time.perf_counter() - began)
    return Times.of(taken), (_cpu(shop.process.pid) - before) * 1000 / 200


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def report_times(report: Report, taken: Mapping[str, list[float]], models: int) -> None:
    """How long each side took."""
    rows = [[name, Spread.of(seconds), f"{models / Spread.of(seconds).median:,.0f}"] for name, seconds in taken.items()]
    report.table(f"Seconds for {models:,} models, durable Postgres:", ["side", "seconds", "models a second"], rows)


def report_costs(report: Report, turns: Mapping[str, SideResult]) -> None:
    """What each side cost, the last time."""
    rows = [
        [
            name,
            turn.told.get("requests", "–"),
            f"{turn.cost.wal / 1e6:,.1f}",
            f"{turn.cost.dead:,}",
            f"{turn.cost.commands:,}",
            f"{turn.cost.reads:,}",
            f"{turn.told['peak_mb']:,.0f}",
        ]
        for name, turn in turns.items()
    ]
    columns = ["side", "upstream requests", "WAL MB", "dead tuples", "Redis commands", "round trips", "peak MB"]
    report.table("What that cost, in the last round:", columns, rows)


def report_goals(report: Report, taken: Mapping[str, list[float]], turns: Mapping[str, SideResult]) -> None:
    """What was to be reached."""
    first, again = turns[FIRST], turns[AGAIN]
    peers = [name for name in WAYS if name in taken]
    if peers:
        quickest = min((name for name in peers if name != STOCK), key=lambda name: Spread.of(taken[name]).median)
        report.at_least(f"first pull: {STOCK} ÷ ours", ratio(taken, STOCK, FIRST), 5)
        report.at_least(f"first pull: {quickest} ÷ ours", ratio(taken, quickest, FIRST), 3)
        for name in (STOCK, quickest):
            repeated = REPEATED.format(name)
            report.at_least(f"unchanged pull: {repeated} ÷ ours", ratio(taken, repeated, AGAIN), 10)
    report.at_most("rows of models and model_changes that the unchanged pull wrote", float(again.written), 0)
    report.at_most("WAL of the unchanged pull ÷ of the first", again.cost.wal / first.cost.wal, 0.15)
    for name, turn in ((FIRST, first), (AGAIN, again)):
        report.at_most(
            f"{name}: requests for each 200 models", turn.told["requests"] * SEEN_A_PAGE / turn.told["models"], 1.06
        )


def report_vendor(report: Report, models: int, shop: Sandbox) -> None:
    """What a page costs the one that serves it, here and in the sandbox."""
    print("pulls: what a page costs the sandbox", file=sys.stderr, flush=True)
    rows = [["rendered beforehand (this bench)", *page_cost(shop, models)]]
    with vendor(models, "--port", "0", "--quiet", "--rate", "0", module="service.local.sandbox") as sandbox:
        rows.append(["the sandbox", *page_cost(sandbox, models)])
    cells = [[name, times, f"{own:.2f}"] for name, times, own in rows]
    report.table("A page of 200 by itself:", ["vendor", "request to answer", "its own CPU, ms"], cells)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pulls", description=__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    report = Report(f"Full pull of {given.models:,} models", "python -m bench.pulls")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey"))
        shop = stack.enter_context(vendor(given.models))
        stage = BenchSetup(folder, postgres, valkey, shop)
        stage.round()
        rounds = [stage.round() for _ in range(given.rounds)]
        taken = {name: [seconds[name] for seconds in rounds] for name in rounds[0]}
        report_times(report, taken, given.models)
        report_costs(report, stage.turns)
        report_vendor(report, given.models, shop)
    if not DLT.exists():
        report.note("dlt is missing: `make bench-peers` installs it.")
    report_goals(report, taken, stage.turns)
    print(report)


if __name__ == "__main__":
    main()
