"""Full pulls, first and unchanged, beside dlt (`bench/peers/dlt_pull.py`): `python -m bench.pulls [--models 100000]`.

The sandbox sets no limit, so the sides are measured. With `--paced` it has the vendor's, and the time of a pull is
compared with the time that our share of the limit dictates. Prints its part of `RESULTS.md`.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import psycopg

from bench.report import Report, ratio, spread
from bench.setup import Cost, Meter, Servers, pull, run_side, sandbox, say, servers, value
from service.storage.migrations.schema import migrate
from tests.support.sandboxes import Sandbox
from tests.support.system import ROOT

DLT = ROOT / ".bench" / "bin" / "python"
SCRIPT = Path(__file__).parent / "peers" / "dlt_pull.py"
FIRST, AGAIN = "first pull", "unchanged pull"
HISTORY, STOCK, FASTEST = "dlt with history and our indexes", "dlt as its documentation begins", "dlt, Arrow and CSV"
WAYS = {HISTORY: "scd2", STOCK: "merge", FASTEST: "replace"}
# Goals: the side's time ÷ ours of a first and of an unchanged pull.
GOALS = {HISTORY: (1, 5), STOCK: (5, 10), FASTEST: (3, 10)}
COLUMNS = ["side", "seconds", "CPU µs a model", "of servers", "requests", "WAL MB", "dead tuples", "Redis", "MB"]
WRITTEN = """
    select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables
    where schemaname = 'headshotpro' and relname in ('models', 'model_changes')
"""


class Turn(NamedTuple):
    """One side, once: its own figures, its cost, and the rows that it wrote to our visible tables."""

    found: dict[str, Any]
    cost: Cost
    written: int

    @property
    def cpu(self) -> float:
        """Seconds of a core, those of Postgres and Redis included."""
        return float(self.found["cpu"]) + self.cost.cpu


def run_round(place: Servers, upstream: Sandbox, number: int) -> dict[str, Turn]:
    """Run every side once, each on a new database, in turned order."""
    turns: dict[str, Turn] = {}

    def turn(name: str, url: str, work: Callable[[], dict[str, Any]]) -> None:
        say(name)
        with Meter(place, url) as meter:
            found = work()
        # Autovacuum would do this in the turn of another side.
        value(url, "vacuum analyze")
        turns[name] = Turn(found, meter.cost, value(url, WRITTEN))

    sides = [None, *(WAYS if DLT.exists() else ())]
    for side in sides if number % 2 else reversed(sides):
        way = WAYS[side] if side else "ours"
        with psycopg.connect(place.postgres.url_of("postgres"), autocommit=True) as connection:
            for statement in (f"drop database if exists {way} with (force)", f"create database {way}", "checkpoint"):
                connection.execute(statement.encode())
        url = place.postgres.url_of(way)
        if side is None:
            place.redis.flushall()
            migrate(url)
            for name in (FIRST, AGAIN):
                turn(name, url, lambda url=url: pull(place, upstream, database=url))  # type: ignore[misc]
        else:
            folder = place.folder / f"{way}{number}"
            command = [DLT, SCRIPT, upstream.url, upstream.api_key, url, str(folder), way]
            if side == HISTORY:
                run_side([*command, "prepare"])
            for name in (side, f"{side}, again"):
                turn(name, url, lambda command=command: run_side([*command, "pull"]))  # type: ignore[misc]
    return turns


def unpaced(report: Report, models: int, rounds: int) -> None:
    """Our pulls beside dlt's."""
    with servers() as place, sandbox(models) as upstream:
        _, *measured = [run_round(place, upstream, number) for number in range(rounds + 1)]
    taken, turns = defaultdict[str, list[float]](list), measured[-1]
    for name, turn in ((name, turn) for turns in measured for name, turn in turns.items()):
        taken[name].append(turn.found["seconds"])
    lines = []
    for name, (found, cost, _) in turns.items():
        own, servers_cpu = (f"{1e6 * seconds / models:.0f}" for seconds in (found["cpu"], cost.cpu))
        figures = [own, servers_cpu, found.get("requests", "–"), f"{cost.wal / 1e6:,.1f}", f"{cost.dead:,}"]
        lines.append([name, spread(taken[name]), *figures, f"{cost.commands:,}", f"{found['peak_mb']:,.0f}"])
    report.table(f"{models:,} models, durable Postgres; CPU, cost and peak memory of the last round:", COLUMNS, lines)
    if not DLT.exists():
        report.note("Missing: dlt (`make bench-peers` installs it).")
    for name, (first, again) in GOALS.items():
        if name in taken:
            report.goal(f"first pull: {name} ÷ ours", ratio(taken, name, FIRST), first)
            report.goal(f"unchanged pull: {name} ÷ ours", ratio(taken, f"{name}, again", AGAIN), again)
    if HISTORY in turns:
        report.goal(f"CPU of a first pull: {HISTORY} ÷ ours", turns[HISTORY].cpu / turns[FIRST].cpu, 1)
        unchanged = turns[f"{HISTORY}, again"].cpu / turns[AGAIN].cpu
        report.goal(f"CPU of an unchanged pull: {HISTORY} ÷ ours", unchanged, 5)
    report.goal("rows of models and model_changes that the unchanged pull wrote", turns[AGAIN].written, high=0)
    report.goal("WAL of the unchanged pull ÷ of the first", turns[AGAIN].cost.wal / turns[FIRST].cost.wal, high=0.15)
    for name in (FIRST, AGAIN):
        requests = turns[name].found["requests"] * 200 / turns[name].found["models"]
        report.goal(f"{name}: requests for each 200 models", requests, high=1.06)


def paced(report: Report, models: int, limit: int, share: float) -> None:
    with servers() as place, sandbox(models, limit) as upstream:
        found = pull(place, upstream, share=share)
    dictated = found["requests"] / (limit * share) * 60
    columns = ["requests", "seconds", "dictated by the limit", "ratio", "of one core"]
    over, core = found["seconds"] / dictated, found["cpu"] / found["seconds"]
    line = [found["requests"], f"{found['seconds']:.1f}", f"{dictated:.1f}", f"{over:.3f}", f"{core:.1%}"]
    report.table(f"{models:,} models at {share:.0%} of {limit} requests a minute:", columns, [line])
    report.goal("time ÷ time that the limit dictates", over, 0.97, 1.03)
    report.goal("part of one core", core, high=0.15)


@click.command()
@click.option("--models", default=100_000)
@click.option("--rounds", default=3, help="Rounds that count; one to warm up comes before.")
@click.option("--paced", "limited", is_flag=True, help="Under the vendor's limit, without peers.")
@click.option("--limit", default=300, help="Requests a minute that a paced vendor allows.")
@click.option("--share", default=0.8, help="RATE_BUDGET of a paced pull.")
def main(models: int, rounds: int, limited: bool, limit: int, share: float) -> None:
    report = Report("Full pull", "python -m bench.pulls" + " --paced" * limited)
    paced(report, models, limit, share) if limited else unpaced(report, models, rounds)
    print(report)


if __name__ == "__main__":
    main()
