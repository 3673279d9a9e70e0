"""The endpoint beside its floor: `python -m bench.webhooks [--seconds 5] [--rounds 3]`; its part of RESULTS.md.

The floor is a bare Flask route behind the same server and settings. 64 connections send signed deliveries, each of
another event: as fast as they are answered, then by a clock at half of that.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.clients import CONNECTIONS, unthrottled_client_name
from bench.measure import Spread, alternate, ratio
from bench.report import Report
from bench.webhook_sides import HANGING, Side, callers, silent_listener
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from tests.support.system import System, rows

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

# Deliveries one after another, to see what one costs that shares nothing.
ALONE = 300
PACED_SHARE = 0.5
SYNCS: tuple[Literal["everysec", "always"], ...] = ("everysec", "always")
FLOOR = "bare Flask route"
AT_LEAST = {"everysec": 0.6, "always": 0.4}


class BenchSetup(NamedTuple):
    """What runs during the bench.

    Attributes:
        floor: the bare route.
        doors: by `appendfsync` of their Redis.
        postgres: the doors' database.
    """

    floor: Side
    doors: dict[str, Side]
    postgres: Postgres


def main() -> None:
    """Measure, and print the part."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="in each of which every side has one run")
    given = parser.parse_args()
    report = Report("Door: from POST to 202", "python -m bench.webhooks")
    with silent_listener() as upstream, _stage(f"http://127.0.0.1:{upstream.getsockname()[1]}/api/v2") as stage:
        _full_speed(stage, report, given.seconds, given.rounds)
        _half_load(stage, report, 2 * given.seconds)
        _among_hanging(stage, report, given.seconds, given.rounds)
        _cost(stage, report, upstream)
    sys.stdout.write(str(report))


@contextmanager
def _stage(upstream: str) -> Iterator[BenchSetup]:
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        migrate(postgres.url)
        redis = {sync: stack.enter_context(Valkey.start(folder / f"valkey-{sync}", sync=sync)) for sync in SYNCS}

        def side(name: str, valkey: Valkey | None) -> Side:
            (folder / name).mkdir()
            url = (valkey or redis["everysec"]).url
            settings = {"DATABASE_URL": postgres.url, "REDIS_URL": url, "HEADSHOTPRO_API_URL": upstream}
            made = Side(stack.enter_context(System(folder / name, **settings, WEB_CONCURRENCY="2")), valkey)
            made.start()
            return made

        yield BenchSetup(side("floor", None), {sync: side(sync, redis[sync]) for sync in SYNCS}, postgres)


def _full_speed(stage: BenchSetup, report: Report, seconds: float, rounds: int) -> None:
    """As many as each takes."""
    sides = {FLOOR: stage.floor, **stage.doors}
    for name, side in sides.items():
        _say(f"warming up: {name}")
        side.burst(seconds)
        side.forget()
    _say("as fast as it goes")
    taken = alternate({name: lambda side=side: side.burst(seconds) for name, side in sides.items()}, rounds, warm_up=0)
    lines = []
    for name, side in sides.items():
        over = "1" if name == FLOOR else str(ratio(taken, name, FLOOR))
        latency = f"{side.median_of('p50_ms'):.1f}", f"{side.median_of('p99_ms'):.1f}"
        cost = f"{side.each('web'):.3f}", f"{side.each('redis'):.3f}", f"{side.client_share():.0%}"
        lines.append((_shown(name), Spread.of(taken[name]), over, *latency, *cost))
    columns = (
        "",
        "deliveries/s",
        "of the bare route",
        "p50 ms",
        "p99 ms",
        "web CPU ms",
        "Redis CPU ms",
        "client's share",
    )
    report.table(f"As fast as {CONNECTIONS} connections go, by {unthrottled_client_name()}:", columns, lines)
    report.note("CPU is for each delivery, the client's share of all cores; times are those of a server that is full.")
    for sync in SYNCS:
        report.at_least(f"endpoint over bare route, {sync}", ratio(taken, sync, FLOOR), AT_LEAST[sync])


def _half_load(stage: BenchSetup, report: Report, seconds: float) -> None:
    """Half of what each takes, by a clock."""
    lines = []
    for name, side in {FLOOR: stage.floor, **stage.doors}.items():
        rate = PACED_SHARE * side.median_of("rate")
        _say(f"half load: {name}")
        run = side.paced(rate, seconds)
        client = f"{run.client_seconds / run.seconds:.0%} of a core"
        lines.append((_shown(name), f"{rate:,.0f}", f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}", client))
        if name != FLOOR:
            report.at_most(f"p99 at half load, {name}", run.p99_ms, 50, " ms")
    title = "At half of that, sent by a clock with random gaps (`bench.paced`), timed from when each was due:"
    report.table(title, ("", "deliveries/s", "p50 ms", "p99 ms", "the client took"), lines)


def _shown(side: str) -> str:
    return side if side == FLOOR else f"endpoint, appendfsync {side}"


def _among_hanging(stage: BenchSetup, report: Report, seconds: float, rounds: int) -> None:
    """What those cost the others who send half a body and no more."""
    side = stage.doors["everysec"]
    _say("among those that hang")
    taken = alternate(
        {"alone": lambda: side.burst(seconds), "among": lambda: side.burst_among_hanging(seconds)}, rounds, warm_up=0
    )
    slowed = ratio(taken, "among", "alone")
    line = (Spread.of(taken["alone"]), Spread.of(taken["among"]), slowed)
    report.table(
        f"While {HANGING} connections hang in mid-body (everysec):", ("alone/s", "among them/s", "ratio"), [line]
    )
    report.at_least(f"rate while {HANGING} hang in mid-body", slowed, 0.5)


def _cost(stage: BenchSetup, report: Report, upstream: socket.socket) -> None:
    """What deliveries use up beside time."""
    side = stage.doors["everysec"]
    _say("one after another")
    before = _wal_bytes(stage.postgres)
    alone = side.one_by_one(ALONE)
    wal = _wal_bytes(stage.postgres) - before
    lines = [
        ("Redis round trips", f"{side.each('round_trips'):.2f}", f"{alone.round_trips / ALONE:.2f}"),
        ("Redis commands", f"{side.each('commands'):.2f}", f"{alone.commands / ALONE:.2f}"),
        ("WAL bytes", "", wal / ALONE),
    ]
    report.table("What a delivery costs:", ("", f"of {CONNECTIONS} at a time", "alone"), lines)
    report.note(
        f"Upstream requests, of all deliveries together: {callers(upstream)}. "
        f"The largest web process held {side.peak_megabytes()} MB at its peak."
    )


def _wal_bytes(postgres: Postgres) -> int:
    (row,) = rows(postgres.url, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as bytes")
    return int(row["bytes"])


def _say(words: str) -> None:
    sys.stderr.write(f"  {words}\n")


if __name__ == "__main__":
    main()
