"""The storm: a hostile vendor, processes and servers killed again and again; then calm, and the mirror has to be exact.

`python -m tests.faults.storm --seeds 25` runs some and prints a line for each. One seed decides what the vendor is like
and what is struck when; how the machine's own timing falls is another matter, so a seed that failed may pass next time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from signal import SIGTERM
from typing import TYPE_CHECKING, Any, NamedTuple

from service.broker import inbox
from service.broker.client import connect_redis
from service.parent_death import die_with_parent
from tests.faults.deployment import FAULTS, deployed, wait_for
from tests.faults.exact import differences
from tests.support.relay import Relay
from tests.support.system import rows
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.deployment import Deployment

MODELS = 230
SECONDS = 10.0

PEACE = {
    "quiet": True, "loss": 0, "duplicates": 0, "reorder": 0, "errors": 0, "slow": 0, "drift": 0, "births": 0,
    "replica_lag": 0, "rate": 0, "speed": 1e6,
}  # fmt: skip


@dataclass
class StormReport:
    """The result of one storm.

    Attributes:
        seed: of it.
        vendor: what its vendor was like.
        seconds: how long all of it took.
        injected: what was struck, and when, in seconds since the storm began.
        events: acknowledged events.
        models: rows of the mirror, tombstones included.
        differences: descriptions of the differences afterwards; it has to be empty.
    """

    seed: int
    vendor: dict[str, Any]
    seconds: float = 0.0
    injected: list[tuple[float, str]] = field(default_factory=list)
    events: int = 0
    models: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        vendor = ", ".join(f"{name} {value}" for name, value in self.vendor.items())
        return (
            f"seed {self.seed:>3}  {self.seconds:4.1f} s  {len(self.injected):>2} kills  {self.events:>4} events  "
            f"{self.models:>3} models  {len(self.differences)} differences  ({vendor})"
        )

    @property
    def full_text(self) -> str:
        """With what was struck when, and each difference."""
        injected = [f"  {at:5.1f} s: {what}" for at, what in self.injected]
        return "\n".join([str(self), *injected, *self.differences])


class Vendor(NamedTuple):
    """A running sandbox."""

    url: str
    api_key: str
    webhook_secret: str
    control_url: str


def storm(seed: int, folder: Path, seconds: float = SECONDS) -> StormReport:
    """One storm in an empty folder: what came of it. Every process it started has ended when this returns."""
    rng = Random(seed)
    options, hostility, workers = _options(rng), _hostility(rng), rng.choice((1, 2))
    report = StormReport(seed, {**options, **hostility, "workers": workers})
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            vendor = stack.enter_context(running_sandbox(models=MODELS, seed=seed, **options))
            deployment = stack.enter_context(deployed(folder, vendor, workers=workers))
            relay = stack.enter_context(Relay(deployment.system.url))
            caller = SandboxClient(vendor)
            caller.control("POST", "/webhook", {"url": relay.url})
            caller.control("POST", "/hostile", hostility | {"quiet": False})
            _inject_faults(deployment, rng, report, seconds)
            caller.control("POST", "/hostile", PEACE)
            _settle(deployment, caller)
            _compare(deployment, caller, relay, report)
    except BaseException as error:
        error.add_note(report.full_text)
        raise
    report.seconds = time.monotonic() - began
    return report


def _options(rng: Random) -> dict[str, Any]:
    """The settings that do not change during one storm."""
    return {
        "order": rng.choice(("newest", "oldest")),
        "deleted": rng.choice(("hidden", "listed")),
        "webhook_form": rng.choice(("full", "mixed")),
        "retry_signing": rng.choice(("anew", "first")),
        "skew": rng.choice((-1.5, 0, 1.5)),
        # Short windows, so that the peace does not begin with the rest of an old minute.
        "rate": rng.choice((0, 600)),
        "rate_window": 5,
    }


def _hostility(rng: Random) -> dict[str, Any]:
    """The vendor's faults until the storm ends; lives and retries take seconds."""
    return {
        "loss": rng.choice((0.05, 0.3)),
        "duplicates": rng.choice((0.1, 0.5)),
        "reorder": rng.choice((1, 4)),
        "errors": rng.choice((0.05, 0.2)),
        "slow": rng.choice((0.05, 0.3)),
        "drift": rng.choice((0.1, 0.5)),
        "replica_lag": rng.choice((0, 1)),
        "births": 300,
        "speed": 1000,
        "failure_rate": 0.3,
    }


def _inject_faults(deployment: Deployment, rng: Random, report: StormReport, seconds: float) -> None:
    """Strike for a number of seconds: everything once before anything is struck again."""
    began = time.monotonic()
    deck: list[str] = []
    while time.monotonic() < began + seconds:
        deck = deck or rng.sample(sorted(FAULTS), len(FAULTS))
        time.sleep(rng.uniform(0.2, 1.2))
        at, fault = round(time.monotonic() - began, 1), deck.pop()
        if deployment.inject_fault(fault, rng.uniform(0, 1)):
            report.injected.append((at, fault))


# Live models that no single GET has shown since a time.
UNREAD = """
    select id from headshotpro.models join headshotpro.model_clocks on model_id = id
    where status <> 'deleted' and (detail_at is null or detail_at < %s) limit 1
"""


def _settle(deployment: Deployment, caller: SandboxClient) -> None:
    """Wait until everything sent is applied; then one full pull, and a sweep that reads every model anew."""
    peace = datetime.now(UTC)
    wait_for("the sender", lambda: caller.control("GET", "/deliveries")["waiting"] == 0)
    with connect_redis(deployment.valkey.url) as client:
        wait_for("the inbox", lambda: inbox.Inbox(client).depth().events == 0)
    pulled = deployment.run("pull")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    wait_for("the sweep", lambda: not rows(deployment.postgres.url, UNREAD, peace))


def _compare(deployment: Deployment, caller: SandboxClient, relay: Relay, report: StormReport) -> None:
    """Look for differences, with our own eyes and with the product's."""
    url = deployment.postgres.url
    report.differences += differences(url, caller, relay)
    verified = deployment.run("verify", "--details")
    if verified.returncode != 0:
        report.differences += [verified.stdout, verified.stderr]
    report.events = len(relay.acknowledged)
    (report.models,) = (row["number"] for row in rows(url, "select count(*) as number from headshotpro.models"))


@contextmanager
def running_sandbox(**options: Any) -> Iterator[Vendor]:
    """A sandbox in which nothing happens yet."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "service.local.sandbox", "--quiet", *words]
    with subprocess.Popen(die_with_parent(command, SIGTERM), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        control = told["url"].removesuffix("/api/v2") + "/_sandbox"
        try:
            yield Vendor(told["url"], told["api_key"], told["webhook_secret"], control)
        finally:
            process.terminate()


def main() -> int:
    """Run storms one after another; 1 where one left a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each storm blows")
    given = parser.parse_args()
    failed = 0
    for seed in range(given.seed, given.seed + given.seeds):
        folder = Path(tempfile.mkdtemp(prefix="hm-"))
        report = storm(seed, folder, given.seconds)
        if report.differences:
            failed += 1
            print(f"{report.full_text}\nlogs and data are kept in {folder}", flush=True)  # noqa: T201 - a command
        else:
            shutil.rmtree(folder)
            print(report, flush=True)  # noqa: T201 - a command
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
