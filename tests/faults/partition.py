"""Two web, three workers and two clocks on seven machines: those that act are cut off from the servers, and come back.

`python -m tests.faults.partition FOLDER KIND` (`namespaces` or `loopback`) prints what was seen, as JSON. For
`namespaces` it has to be run in a namespace of network and process ids of its own, see `test_partition.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import combinations, cycle
from pathlib import Path
from signal import SIGKILL
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import redis
import urllib3

from service.config import environment
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.faults.deployment import wait_for
from tests.support.machines import Loopback, Machine, Machines, Namespaces
from tests.support.processes import TEST_TIMEOUT_SECONDS
from tests.support.relay import Relay
from tests.support.system import rows
from tests.support.vendor import SandboxClient
from workers.clock import LEASE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KINDS: dict[str, type[Machines]] = {"namespaces": Namespaces, "loopback": Loopback}
ROLES = ("web", "web", "worker", "worker", "worker", "clock", "clock")

MODELS = 1500
SETTINGS = {
    "PULL_INTERVAL_SECONDS": "8",
    "HOT_PULL_INTERVAL_SECONDS": "4",
    "WEB_CONCURRENCY": "1",
    "LOG_FORMAT": "json",
}


class PartitionScenario:
    """The running machines, and queries for the one that acts.

    Args:
        machines: where the processes run.
        settings: theirs.
        vendor: the sandbox.
    """

    def __init__(self, machines: Machines, settings: dict[str, str], vendor: SandboxClient) -> None:
        self.settings = settings
        self.vendor = vendor
        self.started = [machines.start(role, settings) for role in ROLES]
        self.redis: Any = redis.Redis.from_url(settings["REDIS_URL"])

    def of(self, role: str) -> list[Machine]:
        return [machine for machine in self.started if machine.role == role]

    def clock(self) -> Machine | None:
        """The machine whose clock acts."""
        return self._owner("clock", (self.redis.get(LEASE_KEY) or b"").decode())

    def puller(self) -> Machine | None:
        """The machine that is in the middle of the full pull."""
        found = rows(
            self.settings["DATABASE_URL"],
            "select holder from headshotpro.pull_checkpoints join headshotpro.pulls on id = pull_id "
            "where pulls.kind = 'full' and leased_until > now() + interval '5 s' and pages >= 2",
        )
        return self._owner("worker", found[0]["holder"]) if found else None

    def _owner(self, role: str, name: str) -> Machine | None:
        return next((machine for machine in self.of(role) if name and machine.owns(name)), None)

    def count(self, query: str) -> int:
        (row,) = rows(self.settings["DATABASE_URL"], query)
        return int(row["count"])


def run_scenario(folder: Path, kind: str) -> dict[str, Any]:
    """The whole of it: what was seen."""
    with ExitStack() as stack:
        machines = stack.enter_context(KINDS[kind](folder))
        postgres = stack.enter_context(machines.postgres())
        valkey = stack.enter_context(machines.valkey())
        migrate(postgres.url)
        told = stack.enter_context(sandbox(machines.vendor_host))
        vendor = SandboxClient(told)
        settings = {
            **SETTINGS,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "HEADSHOTPRO_API_URL": told.url,
            "HEADSHOTPRO_API_KEY": told.api_key,
            "HEADSHOTPRO_WEBHOOK_SECRET": told.webhook_secret,
        }
        scene = PartitionScenario(machines, settings, vendor)
        try:
            for web in scene.of("web"):
                wait_for(f"{web.web_url} answers", lambda url=web.web_url: answers(url))
            relay = stack.enter_context(Relay(*[web.web_url for web in scene.of("web")]))
            vendor.control("POST", "/webhook", {"url": relay.url})
            with life(vendor):
                seen = cut_off_leaders(scene, relay)
            return seen | close(scene, relay, folder)
        except BaseException:
            for machine in scene.started:
                sys.stderr.write(f"--- {machine.role}\n{machine.said[-3000:]}\n")
            raise


def cut_off_leaders(scene: PartitionScenario, relay: Relay) -> dict[str, Any]:
    """Cut off those that act, wait until others do, mend the lines, wait until those that were cut off are back."""
    wait_for("events to be applied", lambda: scene.count("select count(*) from headshotpro.webhook_events") > 5)
    worker, cut_at = cut_in_mid_pull(scene)
    clock = wait_for("a clock to act", scene.clock)
    web = next(machine for machine in scene.of("web") if machine.web_url == relay.endpoints[0])
    for machine in (clock, web):
        machine.cut()
    pages, acknowledged = scene.count(PAGES), len(relay.acknowledged)
    took = {
        "web": seconds_until(cut_at, lambda: len(relay.acknowledged) >= acknowledged + 10),
        "clock": seconds_until(cut_at, lambda: scene.clock() not in (None, clock)),
        "worker": seconds_until(cut_at, lambda: scene.count(PAGES) > pages),
    }
    # A vanished packet differs from a refused one: the web process lives, and sends nothing.
    silent = not answers(web.web_url)
    healed_at = time.time()
    for machine in (clock, worker, web):
        machine.heal()
    wait_for("the clock to wait for its lease", lambda: "clock.stands_by" in clock.said)
    wait_for("the worker to work again", lambda: work(worker, after=healed_at))
    wait_for("the endpoint to answer again", lambda: answers(web.web_url))
    return {
        "took_over_after": took,
        "silent": silent,
        "cut_off_for": healed_at - cut_at,
        # A page that was committed as the line was cut is logged where its answer came, so not at all.
        "work_while_cut_off": work(worker, after=cut_at + 0.5, before=healed_at),
        "acts_beside_another": scene.clock() is clock,
    }


PAGES = "select sum(pages) as count from headshotpro.pulls where kind = 'full'"


def cut_in_mid_pull(scene: PartitionScenario) -> tuple[Machine, float]:
    """Cut off the worker that runs the full pull; when that was."""
    while True:
        worker = wait_for("a full pull to be in the middle", scene.puller)
        worker.cut()
        # It may have handed the pull on in the last moment.
        if scene.puller() is worker:
            return worker, time.time()
        worker.heal()


def close(scene: PartitionScenario, relay: Relay, folder: Path) -> dict[str, Any]:
    """Let everything come to rest, and compare."""
    scene.vendor.control("POST", "/hostile", {"slow": 0})
    wait_for("the last delivery", lambda: scene.vendor.control("GET", "/deliveries")["waiting"] == 0)
    wait_for("the inbox to be empty", lambda: scene.redis.xlen("headshotpro:inbox") == 0)
    events = {row["id"]: row["status"] for row in rows(scene.settings["DATABASE_URL"], EVENTS)}
    deliveries = scene.vendor.control("GET", "/deliveries")
    verify = subprocess.run(
        [sys.executable, "-m", "service.cli", "verify"],
        env=environment(**scene.settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TEST_TIMEOUT_SECONDS,
        check=False,
    )
    counted = scene.count("select sum(requests) as count from headshotpro.pulls")
    return {
        "deliveries": len(relay.acknowledged),
        "refused": deliveries["refused"] + deliveries["given_up"],
        "not_applied": sorted(event for event in relay.acknowledged if events.get(event) not in ("applied", "stale")),
        "pulls_at_once": overlaps([line for machine in scene.of("worker") for line in lines(machine)]),
        "pull_requests": counted,
        "unfinished_work": [path.role for path in scene.started if "work.interrupted" in path.said],
        "verify": {"status": verify.returncode, "said": verify.stdout[-2000:] + verify.stderr[-2000:]},
    }


EVENTS = "select id, status from headshotpro.webhook_events"


def overlaps(said: Sequence[dict[str, Any]]) -> list[str]:
    """Jobs that read pages of one kind of pull, each between its first and its last, at the same time as another."""
    spans: dict[tuple[str, str], list[float]] = {}
    for line in said:
        if line.get("event") == "page":
            spans.setdefault((line["kind"], line["job_id"]), []).append(moment(line))
    return [
        f"{kind}: {one} and {other}"
        for (kind, one), (other_kind, other) in combinations(spans, 2)
        if kind == other_kind and both(spans[kind, one], spans[kind, other])
    ]


def both(one: list[float], other: list[float]) -> bool:
    return max(min(one), min(other)) <= min(max(one), max(other))


def work(machine: Machine, *, after: float, before: float = float("inf")) -> list[str]:
    """The batches and pages of a worker during a period."""
    done = [line for line in lines(machine) if line.get("event") in ("page", "batch") and after < moment(line) < before]
    return [f"{line['event']} at {line['timestamp']}" for line in done]


def lines(machine: Machine) -> Iterator[dict[str, Any]]:
    for line in machine.said.splitlines():
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)


def moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def seconds_until(since: float, look: Callable[[], bool]) -> float:
    """Seconds until something was so."""
    wait_for("another machine to take over", look)
    return time.time() - since


def answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/livez", timeout=2.0, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@contextmanager
def sandbox(host: str) -> Iterator[SimpleNamespace]:
    """A vendor in which nothing happens by itself, and whose answers take their time."""
    options = ["--host", host, "--port", "0", "--models", str(MODELS), "--quiet", "--rate", "0", "--slow", "1.6"]
    command = die_with_parent([sys.executable, "-m", "service.local.sandbox", *options], SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            yield SimpleNamespace(**told, control_url=told["url"].removesuffix("/api/v2") + "/_sandbox")
        finally:
            process.kill()


@contextmanager
def life(vendor: SandboxClient) -> Iterator[None]:
    """Models change their status all the time, with webhooks."""
    ids = [model["id"] for model in vendor.control("GET", "/models")][:50]
    enough = threading.Event()

    def change() -> None:
        for model_id, status in zip(cycle(ids), cycle(("pending", "generatingHeadshots", "active")), strict=False):
            if enough.wait(0.1):
                return
            vendor.control("PATCH", f"/models/{model_id}", {"status": status, "events": True})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_scenario(Path(sys.argv[1]), sys.argv[2])))
