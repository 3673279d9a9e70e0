"""Deploys and a rotated secret under load: processes end when asked, and no delivery notices."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.local.servers import Postgres as LocalPostgres
from service.local.servers import Valkey
from service.storage.migrations import schema
from tests.support.load import DeliveryLoad
from tests.support.processes import eventually, processes_in
from tests.support.system import SECRET, System, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.local.servers import Postgres
    from tests.support.system import StartedProcess

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("deploys")

TO_END_SECONDS = 10


class Deployment:
    """Two web processes as behind a load balancer, a worker and a clock, over servers of their own.

    Attributes:
        database_url: where they mirror to.
        urls: where the web processes listen.
        secret: what the vendor signs with now.
    """

    def __init__(self, folder: Path, stack: ExitStack, database_url: str, redis_url: str) -> None:
        self.database_url = database_url
        self.secret = SECRET
        settings = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        # Two processes share a listening socket in one of them, as in a real deployment.
        self._systems = {
            "first web": stack.enter_context(System(folder / "first", **settings, WEB_CONCURRENCY="2")),
            "second web": stack.enter_context(System(folder / "second", **settings)),
        }
        first = self._systems["first web"]
        self._systems |= {"worker": first, "clock": first}
        self._running = {name: self._start(name) for name in self._systems}
        self.urls = [self._systems[name].url for name in ("first web", "second web")]
        for name in ("first web", "second web"):
            self._systems[name].wait_for_web()

    def restart(self, name: str) -> None:
        """Ask one process to end, and start it again."""
        before = time.monotonic()
        assert self._running[name].stop() == 0, self.logs()
        assert time.monotonic() - before < TO_END_SECONDS, name
        self._running[name] = self._start(name)
        self._systems[name].wait_for_web()

    def set_secret(self, secret: str) -> None:
        """Set the secret that web processes accept after their next restart."""
        for system in self._systems.values():
            system.settings["HEADSHOTPRO_WEBHOOK_SECRET"] = secret

    def assert_each_once(self, load: DeliveryLoad) -> None:
        """Every accepted delivery is an event, and none counts twice."""
        events = sorted(load.accepted)
        query = "select id, deliveries, status from headshotpro.webhook_events where id = any(%s) order by id"

        def found() -> list[dict[str, object]]:
            return rows(self.database_url, query, events)

        assert eventually(lambda: len(found()) == len(events)), self.logs()
        assert [row["id"] for row in sorted(found(), key=lambda row: str(row["id"]))] == events
        assert {(row["deliveries"], row["status"]) for row in found()} == {(1, "applied")}

    def web_logs(self) -> str:
        """The output of the web processes since they first started."""
        systems = {id(system): system for system in self._systems.values()}.values()
        return "".join(started.said for system in systems for started in system.started)

    def logs(self) -> str:
        return "\n".join(system.logs() for system in self._systems.values())

    def _start(self, name: str) -> StartedProcess:
        return self._systems[name].start(name.rpartition(" ")[2])


@contextmanager
def deployed(database_url: str) -> Iterator[Deployment]:
    """A deployment in a folder of its own; everything of it has ended with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    for name in ("first", "second"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey.start(folder / "valkey", sync="no"))
        yield Deployment(folder, stack, database_url, valkey.url)
    assert not processes_in(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def deployment(postgres: Postgres) -> Iterator[Deployment]:
    with deployed(postgres.url) as running:
        yield running


@pytest.mark.long
def test_a_deploy_under_load_loses_and_fails_no_delivery(
    deployment: Deployment, record_property: Callable[[str, object], None]
) -> None:
    load = DeliveryLoad(deployment.urls, deployment.secret)
    with load.running(threads=4):
        for name in ("first web", "second web", "worker", "clock"):
            load.assert_goes_on()
            deployment.restart(name)
        load.assert_goes_on()
    # A connection that comes between the last check of a listen queue and its close is reset.
    record_property("deliveries", load.answers.total())
    record_property("resets", load.resets)
    sys.stdout.write(f"{load.resets} of {load.answers.total()} deliveries were reset and sent again\n")
    assert set(load.answers) == {202}, load.answers
    deployment.assert_each_once(load)


@pytest.mark.long
def test_a_rotated_secret_loses_no_event(deployment: Deployment) -> None:
    old, new = deployment.secret, secrets.token_hex(32)
    load = DeliveryLoad(deployment.urls, old)
    with load.running(threads=4):
        load.assert_goes_on()
        # The vendor ends the old secret when it makes the new one: web refuses what it signs until it knows that.
        load.secret = deployment.secret = new
        assert eventually(lambda: load.answers[401] > 0)
        deployment.set_secret(f"{new},{old}")
        for name in ("first web", "second web"):
            deployment.restart(name)
        load.assert_goes_on()
    assert set(load.answers) == {202, 401}, load.answers
    assert '"answer": "forged"' in deployment.web_logs()
    # The vendor's retries, and among them one that was signed before: that is what the old secret is kept for.
    early = DeliveryLoad(deployment.urls, old)
    early.deliver_once()
    load.deliver_again()
    assert (load.refused, early.refused) == ([], [])
    deployment.set_secret(new)
    for name in ("first web", "second web"):
        deployment.restart(name)
    after = DeliveryLoad(deployment.urls, new)
    after.deliver_once()
    early.deliver_once()
    assert (after.answers, early.answers) == ({202: 1}, {202: 1, 401: 1})
    for each in (load, early, after):
        deployment.assert_each_once(each)


def main() -> None:
    """Restart web again and again under load, and print how many deliveries were reset: `… 20` restarts it 20 times."""
    restarts = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="hm-") as path, LocalPostgres.start(Path(path)) as postgres:
        schema.migrate(postgres.url)
        with deployed(postgres.url) as deployment:
            load = DeliveryLoad(deployment.urls, deployment.secret, pause=0)
            began = time.monotonic()
            with load.running(threads=8):
                for number in range(restarts):
                    deployment.restart(("first web", "second web")[number % 2])
                    load.assert_goes_on()
            rate = load.answers.total() / (time.monotonic() - began)
            sys.stdout.write(
                f"{restarts} restarts of web, {load.answers.total()} deliveries, {rate:.0f} a second: "
                f"{load.resets} were reset and sent again, {len(load.refused)} failed\n"
            )
            assert set(load.answers) == {202}, load.answers


if __name__ == "__main__":
    main()
