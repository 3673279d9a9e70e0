"""Postgres and Redis unavailable, restarted or hanging: the running processes wait, go on, and end on SIGTERM."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from service.local.servers import Valkey
from tests.support.processes import descendants, eventually, processes_in, suspended
from tests.support.servers import crash, new_postgres
from tests.support.system import System, event_body, model_row, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("servers gone")


class Deployment:
    """The processes and their two servers; every test but the last leaves all of them running.

    Attributes:
        while_down: what web answered while neither server was there: `/livez`, `/readyz`, a delivery.
        first: process ids right after the start.
    """

    def __init__(self, folder: Path) -> None:
        self.postgres = new_postgres(folder / "postgres", migrated=True)
        self.valkey = Valkey.start(folder / "valkey")
        self.postgres.stop()
        self.valkey.stop()
        (folder / "processes").mkdir()
        self.system = System(folder / "processes", DATABASE_URL=self.postgres.url, REDIS_URL=self.valkey.url)
        self.system.start_all()
        self.first = [started.process.pid for started in self.system.started]
        self.while_down = [
            self.system.get("/livez").status,
            self.system.get("/readyz").status,
            self.system.deliver(event_body(new_id())).status,
        ]
        # Children that end at once would be started anew by now.
        time.sleep(3)
        self.postgres.boot()
        self.valkey.boot()

    def deliver(self) -> str:
        """A delivery that is accepted: the id of its model."""
        model = new_id()
        answer = self.system.deliver(event_body(model))
        assert answer.status == 202, answer.data
        return model

    def assert_applied(self, *models: str) -> None:
        """The events of these models are rows soon."""
        assert eventually(lambda: all(model_row(self.postgres.url, model) for model in models)), self.system.logs()

    @contextmanager
    def flood(self) -> Iterator[list[str]]:
        """Deliver all the time: the models whose events were accepted."""
        accepted: list[str] = []
        enough = threading.Event()

        def work() -> None:
            while not enough.wait(0.02):
                model = new_id()
                if self.system.deliver(event_body(model)).status == 202:
                    accepted.append(model)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield accepted
        finally:
            enough.set()
            thread.join(30)

    def close(self) -> None:
        self.system.__exit__()
        self.postgres.stop()
        self.valkey.stop()


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    folder = Path(tempfile.mkdtemp(prefix="hm-"))
    running = Deployment(folder)
    yield running
    running.close()
    shutil.rmtree(folder, ignore_errors=True)


def in_time(answer: urllib3.BaseHTTPResponse, before: float) -> tuple[int, bool]:
    return answer.status, time.monotonic() - before < 8


def test_processes_start_without_servers_and_recover_with_them(deployment: Deployment) -> None:
    assert deployment.while_down == [200, 503, 503]
    assert eventually(lambda: deployment.system.get("/readyz").status == 200)
    deployment.assert_applied(deployment.deliver())
    assert [started.process.poll() for started in deployment.system.started] == [None] * 3
    assert [started.process.pid for started in deployment.system.started] == deployment.first


def test_they_survive_a_restart_of_redis_and_accept_all_the_time(deployment: Deployment) -> None:
    deployment.assert_applied(deployment.deliver())
    # Web's look at the schema, which it could not see when it started, ends by itself: a worker is left.
    web = deployment.system.started[-1].process.pid
    assert eventually(lambda: len(descendants(web)) == 1)
    processes = set(processes_in(deployment.system.folder))
    with deployment.flood() as accepted:
        assert eventually(lambda: len(accepted) > 20)
        crash(deployment.valkey)
        # The deliveries that Redis took before it was killed come back with it.
        before = len(accepted) + 1
        # Postgres keeps them meanwhile, and a worker applies them from there: without Redis the mirror lives on.
        assert eventually(lambda: len(accepted) > before + 20)
        deployment.assert_applied(*accepted[before:])
        deployment.valkey.boot()
        before = len(accepted)
        assert eventually(lambda: len(accepted) > before + 20)
    deployment.assert_applied(*accepted, deployment.deliver())
    # RQ's workers end when Redis goes; ours come back by themselves, in the same processes.
    assert set(processes_in(deployment.system.folder)) == processes


def test_processes_accept_deliveries_while_postgres_restarts(deployment: Deployment) -> None:
    with deployment.flood() as accepted:
        assert eventually(lambda: len(accepted) > 20)
        crash(deployment.postgres)
        before = len(accepted)
        assert eventually(lambda: len(accepted) > before + 20)
        readyz = deployment.system.get("/readyz")
        assert readyz.status == 200
        assert b"postgres: unavailable" in readyz.data
        deployment.postgres.boot()
    deployment.assert_applied(*accepted, deployment.deliver())


def test_redis_may_lose_everything(deployment: Deployment) -> None:
    with redis.Redis.from_url(deployment.valkey.url) as client:
        client.flushall()
    deployment.assert_applied(deployment.deliver())


def test_hanging_redis_times_out_few_deliveries_and_loses_none(
    deployment: Deployment,
) -> None:
    with suspended(deployment.valkey):
        before = time.monotonic()
        models = [deployment.deliver()]
        assert time.monotonic() - before < 8
        # Each would wait two seconds by itself.
        before = time.monotonic()
        models += [deployment.deliver() for _ in range(20)]
        assert time.monotonic() - before < 15
        assert in_time(deployment.system.get("/livez"), time.monotonic()) == (200, True)
        before = time.monotonic()
        readyz = deployment.system.get("/readyz")
        assert in_time(readyz, before) == (200, True)
        assert b"redis: unavailable" in readyz.data
        assert b"deliveries are kept in Postgres meanwhile" in readyz.data
    deployment.assert_applied(*models, deployment.deliver())


def test_delivery_gets_503_in_time_when_both_servers_hang(deployment: Deployment) -> None:
    with suspended(deployment.valkey), suspended(deployment.postgres):
        before = time.monotonic()
        answer = deployment.system.deliver(event_body(new_id()))
        assert in_time(answer, before) == (503, True)
        assert int(answer.headers["Retry-After"]) > 0
        before = time.monotonic()
        assert {deployment.system.deliver(event_body(new_id())).status for _ in range(20)} == {503}
        assert time.monotonic() - before < 25
    assert eventually(lambda: deployment.system.deliver(event_body(new_id())).status == 202)
    # The circuit breaker of each server closes by itself: Postgres takes deliveries again, too.
    with suspended(deployment.valkey):
        assert eventually(lambda: deployment.system.deliver(event_body(new_id())).status == 202)
    deployment.assert_applied(deployment.deliver())


def test_a_postgres_that_hangs_keeps_nobody_out(deployment: Deployment) -> None:
    # The connection that web has by then is one on which no answer comes.
    assert eventually(lambda: b"postgres: ok" in deployment.system.get("/readyz").data)
    with suspended(deployment.postgres):
        before = time.monotonic()
        answer = deployment.system.get("/readyz")
        assert in_time(answer, before) == (200, True)
        assert b"postgres: unavailable" in answer.data
        # Another such question meanwhile does not hold up deliveries.
        looks = [threading.Thread(target=deployment.system.get, args=("/readyz",)) for _ in range(3)]
        for look in looks:
            look.start()
        before = time.monotonic()
        models = [deployment.deliver() for _ in range(5)]
        assert time.monotonic() - before < 3
        for look in looks:
            look.join(20)
    deployment.assert_applied(*models)


@pytest.mark.last
def test_they_end_in_time_while_both_servers_hang(deployment: Deployment) -> None:
    deployment.deliver()
    with suspended(deployment.postgres), suspended(deployment.valkey):
        time.sleep(1)
        before = time.monotonic()
        for started in deployment.system.started:
            started.process.terminate()
        for started in deployment.system.started:
            assert started.process.wait(20) == 0, started.said[-2000:]
        assert time.monotonic() - before < 10
        assert eventually(lambda: not processes_in(deployment.system.folder)), deployment.system.logs()
