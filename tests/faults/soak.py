"""The soak: steady load while servers and processes are struck again and again; then every acknowledged event is there.

`python -m tests.faults.soak --seconds 600` prints a line every ten seconds, and at the end the count of acknowledged
events beside that of `webhook_events`. A sender does as the vendor: what is not acknowledged is sent again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from service.broker import inbox
from service.broker.client import connect_redis
from tests.faults.deployment import FAULTS, deployed, wait_for
from tests.faults.storm import running_sandbox
from tests.support.processes import TEST_TIMEOUT_SECONDS
from tests.support.system import event_body, rows, signed
from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.deployment import Deployment

MODELS = 200
SENDERS = 4
# Between two events of one sender: about a hundred events a second together, on which two cores can also be struck.
PAUSE_SECONDS = 0.03
SAY_EVERY_SECONDS = 10.0
LEAST_EVENTS = 200

LEFT = "select count(*) as number from headshotpro.event_spool"
KEPT = """
    select id, deliveries, status, cardinality(delivery_ids) as told_apart from headshotpro.webhook_events
    where id like 'evt_soak_%'
"""


@dataclass
class SoakResult:
    """The result of a soak.

    Attributes:
        acknowledged: ids of the events that were answered 202.
        tries: how many deliveries were sent for them.
        injected: what was struck.
        faults: the differences afterwards; it has to be empty.
    """

    acknowledged: list[str] = field(default_factory=list)
    tries: int = 0
    injected: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def soak(seconds: float, folder: Path, seed: int = 1, say: Callable[[str], None] = lambda _line: None) -> SoakResult:
    """Load and strike a deployment in an empty folder; every process has ended when this returns."""
    rng, soaked, enough = Random(seed), SoakResult(), threading.Event()
    with ExitStack() as stack:
        vendor = stack.enter_context(running_sandbox(models=MODELS, seed=seed, rate=0))
        models = [model["id"] for model in SandboxClient(vendor).control("GET", "/models")]
        deployment = stack.enter_context(deployed(folder, vendor, workers=2))

        def send(number: int) -> None:
            own = Random(seed + number)
            for count in range(1_000_000):
                if enough.wait(PAUSE_SECONDS):
                    return
                event_id = f"evt_soak_{number}_{count}"
                body = event_body(own.choice(models), event_id=event_id, status=own.choice(("waiting", "active")))
                if _acknowledged(deployment, body, vendor.webhook_secret, soaked):
                    soaked.acknowledged.append(event_id)
                else:
                    soaked.faults.append(f"never acknowledged: {event_id}")

        senders = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            _inject_faults(deployment, rng, soaked, seconds, say)
        finally:
            enough.set()
            for sender in senders:
                sender.join(60)
        _settle(deployment)
        soaked.faults += _faults(deployment.postgres.url, soaked)
    return soaked


def _acknowledged(deployment: Deployment, body: bytes, secret: str, soaked: SoakResult) -> bool:
    """Send an event until it is acknowledged or the vendor's retries are over."""
    deadline = time.monotonic() + TEST_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        soaked.tries += 1
        if deployment.system.post(body, signed(body, secret=secret)).status == 202:
            return True
        time.sleep(PAUSE_SECONDS)
    return False


def _inject_faults(
    deployment: Deployment, rng: Random, soaked: SoakResult, seconds: float, say: Callable[[str], None]
) -> None:
    """Everything once before anything is struck again."""
    began = said = time.monotonic()
    deck: list[str] = []
    acknowledged: list[int] = []
    # A slow machine needs longer until there is anything to say.
    while (now := time.monotonic()) < began + seconds or len(soaked.acknowledged) < LEAST_EVENTS:
        deck = deck or rng.sample(sorted(FAULTS), len(FAULTS))
        time.sleep(rng.uniform(0.5, 2.5))
        # Two strikes may overlap; the next one waits for an event, or a slow machine would never get to one.
        if acknowledged[1:]:
            wait_for("an event after two strikes", lambda: len(soaked.acknowledged) > acknowledged[-2])
        acknowledged.append(len(soaked.acknowledged))
        fault = deck.pop()
        if deployment.inject_fault(fault, rng.uniform(0, 2)):
            soaked.injected.append(fault)
        if now - said > SAY_EVERY_SECONDS:
            said = now
            say(f"{now - began:4.0f} s  {len(soaked.acknowledged):>6} acknowledged  {len(soaked.injected):>3} blows")


def _settle(deployment: Deployment) -> None:
    with connect_redis(deployment.valkey.url) as client:
        wait_for("the inbox", lambda: inbox.Inbox(client).depth().events == 0)
    wait_for("the spool", lambda: rows(deployment.postgres.url, LEFT)[0]["number"] == 0)


def _faults(url: str, soaked: SoakResult) -> list[str]:
    """Acknowledged events that are not there, others that are, and those that ended wrongly."""
    kept = {row["id"]: row for row in rows(url, KEPT)}
    acknowledged = set(soaked.acknowledged)
    found = [f"lost: {event_id}" for event_id in sorted(acknowledged - kept.keys())]
    found += [f"not acknowledged, but there: {event_id}" for event_id in sorted(kept.keys() - acknowledged)]
    found += [f"{row['id']} is {row['status']}" for row in kept.values() if row["status"] not in {"applied", "stale"}]
    deliveries = sum(row["deliveries"] for row in kept.values())
    if deliveries > soaked.tries:
        found.append(f"{deliveries} deliveries are counted, {soaked.tries} were sent")
    return found


def main() -> int:
    """Run one soak; 1 where something is wrong afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long it is loaded and struck")
    parser.add_argument("--seed", type=int, default=1, help="decides what is struck when")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)  # noqa: T201 - a command

    soaked = soak(given.seconds, Path(tempfile.mkdtemp(prefix="hm-")), given.seed, say)
    say(
        f"{len(soaked.acknowledged)} events acknowledged, of {soaked.tries} deliveries sent; "
        f"{len(soaked.injected)} blows; {len(soaked.faults)} faults"
    )
    for fault in soaked.faults[:50]:
        say(fault)
    return 1 if soaked.faults else 0


if __name__ == "__main__":
    sys.exit(main())
