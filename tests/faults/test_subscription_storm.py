"""A storm over subscriptions: receivers that fail, hang, respond slowly and reset; senders and Postgres are killed.

Afterwards each subscription has got every change that its filter admits, in order for each model, and no other.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from service.errors import PostgresUnavailable
from service.mirror.apply import apply
from service.mirror.merge import Observation
from service.parent_death import die_with_parent
from service.storage import database
from service.storage.database import transaction
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands
from tests.support.acting import TESTER
from tests.support.drainer import T0
from tests.support.servers import crash
from tests.support.subscriber import HANG, RESET, Behaviour, Subscriber, admitted
from tests.support.system import ROOT, eventually, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from service.local.servers import Postgres

STATUSES = ("waiting", "pending", "generatingHeadshots", "active", "failed")
BATCH = 20


class Share(NamedTuple):
    """How a receiver behaves, with which probability; otherwise it responds 204."""

    chance: float
    behaviour: Behaviour


class Kills(NamedTuple):
    """How often one process or server is killed: the interval in seconds, and the most kills."""

    every: float
    most: int


RECEIVERS = {
    "well": (),
    "filtered": (),
    "failing": (Share(0.3, 500), Share(0.05, 302)),
    "hanging": (Share(0.02, HANG),),
    "resetting": (Share(0.15, RESET),),
    "slow": (),
    "batches": (Share(0.1, 503),),
}
WANTED = {"filtered": {"statuses": ["active", "failed"]}, "batches": {"batch": 25}}


def behaviour(shares: tuple[Share, ...], rng: random.Random, pause: float) -> Callable[[int, Any], Behaviour]:
    def behave(_number: int, _request: Any) -> Behaviour:
        time.sleep(pause * rng.random())  # it responds slowly
        drawn = rng.random()
        for share in shares:
            if drawn < share.chance:
                return share.behaviour
            drawn -= share.chance
        return 204

    return behave


class Senders:
    """Processes that send, which are killed and started again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._running: list[subprocess.Popen[bytes]] = []
        self._number = 0

    def start(self) -> None:
        self._number += 1
        command = [sys.executable, "-m", "tests.faults.subscription_sender", self._url, f"sender-{self._number}"]
        self._running.append(subprocess.Popen(die_with_parent(command, SIGKILL), cwd=ROOT))

    def kill_one(self, rng: random.Random) -> None:
        victim = self._running.pop(rng.randrange(len(self._running)))
        victim.kill()
        victim.wait()
        self.start()

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(15)


@contextmanager
def killing(
    senders: Senders, server: Postgres, rng: random.Random, plan: Kills, taken: Callable[[], int]
) -> Iterator[None]:
    """Kill a sender every so often, and every third time Postgres; on a slow machine once anything was taken since."""
    over = threading.Event()

    def strike() -> None:
        before = -1
        for strike in range(1, plan.most + 1):
            if over.wait(plan.every):
                return
            while taken() <= before:
                if over.wait(0.05):
                    return
            before = taken()
            if strike % 3 == 0:
                crash(server)
                server.boot()
            else:
                senders.kill_one(rng)
        # The processes that this thread has started end with it.
        over.wait()

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def make_changes(engine: Engine, changes: int) -> None:
    """Changes of models that come, move through their statuses, and go."""
    models = [new_id() for _ in range(max(1, changes // len(STATUSES)))]
    for step, status in enumerate(STATUSES):
        at = T0 + timedelta(minutes=step)
        for place in range(0, len(models), BATCH):
            observed = [
                Observation(model, at, at, {"status": status, "title": "A title"})
                for model in models[place : place + BATCH]
            ]
            while True:
                try:
                    with transaction(engine) as connection:
                        apply(connection, observed, "webhook")
                    break
                except PostgresUnavailable:
                    time.sleep(0.2)  # it was just killed


def storm(server: Postgres, changes: int, seed: int, kills: Kills | None) -> dict[str, Any]:
    """Run one; what came of it, for each receiver."""
    rng = random.Random(seed)
    engine = database.connect(server.url)
    senders = Senders(server.url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.callback(senders.stop)
        receivers = {}
        for name, shares in RECEIVERS.items():
            pause = 0.3 if name == "slow" else 0.0
            receivers[name] = stack.enter_context(Subscriber(behaviour(shares, random.Random(seed), pause)))
            commands = SubscriptionCommands(engine, TESTER)
            receivers[name].secrets = [
                commands.add(SubscriptionBody(name, receivers[name].url, **WANTED.get(name, {})))
            ]
        began = time.monotonic()
        for _ in range(2):
            senders.start()

        def taken() -> int:
            return sum(len(one.seen) for one in receivers.values())

        with killing(senders, server, rng, kills, taken) if kills else ExitStack():
            make_changes(engine, changes)
            made_in = time.monotonic() - began
            expected = {name: admitted_at_last(server.url, name) for name in receivers}
            counts = {name: sum(map(len, of_models.values())) for name, of_models in expected.items()}

            # By their number: to compare them at each check would take the time of the receivers, in this process.
            def complete() -> bool:
                return all(len(one.seen) >= counts[name] for name, one in receivers.items())

            # As long as anything is taken.
            before = -1
            while not complete() and taken() > before:
                before = taken()
                eventually(lambda before=before: complete() or taken() > before)
        report = {"changes": changes, "seed": seed, "made_in": made_in, "seconds": time.monotonic() - began}
        for name, one in receivers.items():
            got, wanted = one.by_model(), expected[name]
            ids = one.change_ids
            report[name] = {
                "complete": {model: sorted(changed) for model, changed in got.items()} == wanted,
                "in_order": all(changed == sorted(changed) for changed in got.values()),
                "duplicates": len(ids) - len(set(ids)),
                "taken": len(ids),
                "requests": len(one.requests),
                "seconds": round(one.taken[-1].at - began, 1) if one.taken else None,
            }
    return report


def admitted_at_last(url: str, name: str) -> dict[str, list[int]]:
    """The changes that a receiver has to get; Postgres may be down at this moment."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(Exception):
            return admitted(url, WANTED.get(name, {}).get("statuses"))
    raise AssertionError("Postgres did not come back")


def judge(report: dict[str, Any], *, duplicates_allowed: bool) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    for name in RECEIVERS:
        result = report[name]
        assert result["complete"], (name, report)
        assert result["in_order"], (name, report)
        if not duplicates_allowed:
            assert result["duplicates"] <= result["taken"] / 100, (name, report)


@pytest.mark.long
def test_storm_of_receivers_loses_nothing_and_repeats_little(own_migrated_postgres: Postgres) -> None:
    judge(storm(own_migrated_postgres, 200, 1, None), duplicates_allowed=False)


def test_storm_that_kills_senders_and_postgres_loses_nothing(own_migrated_postgres: Postgres) -> None:
    judge(storm(own_migrated_postgres, 200, 2, Kills(every=1.0, most=6)), duplicates_allowed=True)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [None, Kills(every=5.0, most=1000)])
def test_long_storm_loses_nothing(own_migrated_postgres: Postgres, kills: Kills | None) -> None:
    judge(storm(own_migrated_postgres, 1000, 3, kills), duplicates_allowed=kills is not None)


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    from service.local.servers import Postgres as LocalPostgres
    from service.storage.migrations import schema

    with tempfile.TemporaryDirectory(prefix="hm-") as path, LocalPostgres.start(Path(path)) as started:
        schema.migrate(started.url)
        judge(
            storm(
                started, int(sys.argv[1]), int(sys.argv[2]), Kills(float(sys.argv[3]), 1000) if sys.argv[3:] else None
            ),
            duplicates_allowed=bool(sys.argv[3:]),
        )
