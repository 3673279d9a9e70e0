"""How fast the API answers from a mirror, beside the sandbox; and the endpoint while API clients load it.

`python -m bench.api [--models 100000] [--seconds 10]`. It starts servers of its own and prints what it saw.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

import psycopg
import urllib3

from bench.measure import Times
from service.local.servers import Postgres, Valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support.mirror import Mirror
from tests.support.sandboxes import Sandbox, _as_arguments
from tests.support.system import SECRET, System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "key-of-the-bench"
PATH = "/api/v2/organization/models"
PAGE = 200
CLIENTS = 32


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


class Client:
    """One client with one connection that is kept."""

    def __init__(self, base: str, key: str) -> None:
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=30)
        self._base = base
        self._headers = {"Authorization": f"Bearer {key}"}

    def page(self, offset: int, query: str = "") -> float:
        """Seconds that a page of 200 took."""
        before = time.perf_counter()
        answer = self._pool.request("GET", f"{self._base}?limit={PAGE}&offset={offset}{query}", headers=self._headers)
        took = time.perf_counter() - before
        assert answer.status == 200, answer.data
        return took

    def status(self, query: str) -> int:
        """The status of a call that may be sent away."""
        return self._pool.request("GET", f"{self._base}?{query}", headers=self._headers).status


def main() -> None:
    """Fill a mirror, then measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--hammer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hammer:
        _hammer(options.hammer)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hm-")))
        postgres = stack.enter_context(Postgres.start(folder / "postgres"))
        valkey = stack.enter_context(Valkey.start(folder / "valkey"))
        sandbox = stack.enter_context(_sandbox(options.models))
        migrate(postgres.url)
        mirror = Mirror(sandbox, postgres.url, valkey.url)
        stack.callback(mirror.close)
        _fill(postgres.url, options.models)
        system = stack.enter_context(_system(folder, mirror))
        system.start("web")
        system.wait_for_web()
        _measure_pages(system, sandbox, mirror, options.models)
        _measure_webhooks(system, options.seconds)


@contextmanager
def _sandbox(models: int) -> Iterator[Sandbox]:
    options = _as_arguments({"models": models, "quiet": True, "rate": 0})
    command = [sys.executable, "-m", "service.local.sandbox", "--port", "0", *options]
    with subprocess.Popen(die_with_parent(command, SIGTERM), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        control = told["url"].removesuffix("/api/v2") + "/_sandbox"
        yield Sandbox(told["url"], told["api_key"], told["webhook_secret"], control, process)
        process.terminate()


def _fill(url: str, models: int) -> None:
    """Rows as a pull leaves them: a pull of so many would take a minute or two."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement, {"models": models})
        # What Postgres does by itself after such a load, a moment later.
        connection.execute("vacuum analyze headshotpro.models, headshotpro.model_clocks, headshotpro.model_changes")


FILL = (
    """
    insert into headshotpro.models (id, uid, email, title, status, team_id, team_name, is_development, created_at,
        finished_at, photo_count, observed_at, updated_at)
    select lpad(to_hex(1700000000 + n * 60), 8, '0') || substr(md5(n::text), 1, 16), 'anon_' || n,
        'person' || n || '@example.com', 'Person ' || n,
        (array['active', 'active', 'active', 'active', 'active', 'active', 'active', 'onboarding', 'failed', 'deleted'])
            [1 + n %% 10],
        'team_' || n %% 20, 'Team ' || n %% 20, false, to_timestamp(1700000000 + n * 60),
        to_timestamp(1700003600 + n * 60), 40, now(), now()
    from generate_series(1, %(models)s * 10 / 9) as n order by md5(n::text)
    """,
    """
    insert into headshotpro.model_clocks (model_id, core_at, profile_at, detail_at) select id, now(), now(), now()
    from headshotpro.models
    """,
    """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at)
    select id, status, jsonb_build_object('status', jsonb_build_array(null, status)), 'pull', now(), now()
    from headshotpro.models
    """,
)


def _system(folder: Path, mirror: Mirror) -> System:
    settings = mirror.variables | {
        "MIRROR_API_KEYS": KEY,
        "LOG_LEVEL": "error",
        "HEADSHOTPRO_WEBHOOK_SECRET": SECRET,
    }
    return System(folder, **settings)


def _measure_pages(system: System, sandbox: Sandbox, mirror: Mirror, models: int) -> None:
    ours = Client(system.url + PATH, KEY)
    theirs = Client(sandbox.url + "/organization/models", sandbox.api_key)
    ours.page(0)
    _say(f"\nA page of {PAGE} of {models}")
    for offset in (0, models // 4, models // 2, models * 3 // 4, models - PAGE):
        _say(f"  offset {offset:>6}  mirror   {Times.of([ours.page(offset) for _ in range(60)])}")
        _say(f"                 sandbox  {Times.of([theirs.page(offset) for _ in range(60)])}")
    offsets = range(0, models, PAGE)
    _say(f"  a whole walk   mirror   {Times.of([ours.page(offset) for offset in offsets])}")
    _say(f"                 sandbox  {Times.of([theirs.page(offset) for offset in offsets])}")
    _say(f"  status=active  mirror   {Times.of([ours.page(models // 2, '&status=active') for _ in range(60)])}")
    _say("  with a change before each page: the total is counted anew, and no page's end is remembered")
    _say(f"                 mirror   {_changing(ours, mirror, models)}")
    _say(f"  updatedSince=0 mirror   {Times.of([ours.page(0, '&updatedSince=0') for _ in range(60)])}")


def _changing(client: Client, mirror: Mirror, models: int) -> Times:
    """Pages while the mirror changes all the time: no total that was counted before holds."""
    touch = """
        insert into headshotpro.model_changes (model_id, changed, source, observed_at, recorded_at)
        select id, '{}', 'pull', now(), now() from headshotpro.models limit 1
    """
    taken = []
    for number in range(60):
        mirror.sql(touch)
        taken.append(client.page(number * models // 60))
    return Times.of(taken)


def _measure_webhooks(system: System, seconds: float) -> None:
    """Deliveries one after another, first alone, then while clients ask for pages as fast as they can."""
    _say(f"\nDeliveries, one after another for {seconds:g} s each ({CLIENTS} clients on the API)")
    alone = _deliver(system, seconds)
    _say(f"  API idle        {alone}")
    with _hammering(system):
        loaded = _deliver(system, seconds)
    _say(f"  API hammered    {loaded}")
    _say(f"  ratio of medians {loaded.median / alone.median:.1f}")


def _deliver(system: System, seconds: float) -> Times:
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.perf_counter()
        answer = system.deliver(event_body(new_id()))
        taken.append(time.perf_counter() - before)
        assert answer.status == 202, answer.data
    return Times.of(taken)


@contextmanager
def _hammering(system: System) -> Iterator[None]:
    """Clients that ask for pages as fast as they can; a process of its own, so that it does not slow the measuring."""
    command = [sys.executable, "-m", "bench.api", "--hammer", system.url + PATH]
    with subprocess.Popen(die_with_parent(command, SIGTERM), stdin=subprocess.PIPE) as process:
        time.sleep(2)
        yield
        process.communicate(b"stop")


def _hammer(url: str) -> None:
    """Ask with many clients until a word comes on standard input; then say how many pages there were."""
    stop, asked = threading.Event(), Counter[int]()

    def ask(number: int) -> None:
        client = Client(url, KEY)
        while not stop.is_set():
            asked[client.status(f"limit={PAGE}&offset={number * 1000}")] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    before = time.monotonic()
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    pages = {status: f"{count / (time.monotonic() - before):.0f}/s" for status, count in asked.items()}
    _say(f"  the clients on the API got, by status, {pages}")


if __name__ == "__main__":
    main()
