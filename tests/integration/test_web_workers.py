"""Web goes on accepting deliveries while its one worker is stopped, killed or replaced."""

from __future__ import annotations

import os
import time
from signal import SIGHUP, SIGINT, SIGTERM
from typing import TYPE_CHECKING

import pytest

from bench.webhooks import BARE
from tests.support.processes import descendants, eventually
from tests.support.servers import temporary_folder
from tests.support.system import System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from signal import Signals

    from service.local.servers import Postgres, Valkey

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("web workers")


@pytest.fixture(scope="module")
def system(postgres: Postgres, valkey: Valkey) -> Iterator[System]:
    """Web with one worker; each test leaves it with another one."""
    with (
        temporary_folder() as folder,
        System(folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url, WEB_CONCURRENCY="1") as running,
    ):
        running.start("web")
        running.wait_for_web()
        yield running


@pytest.mark.parametrize(("target", "sent"), [("worker", SIGTERM), ("worker", SIGHUP), ("master", SIGHUP)], ids=str)
def test_web_accepts_while_its_worker_is_replaced(system: System, target: str, sent: Signals) -> None:
    master = system.started[0].process.pid
    assert eventually(lambda: len(descendants(master)) == 1)
    (worker,) = descendants(master)
    os.kill(worker if target == "worker" else master, sent)
    statuses: list[int] = []

    def is_replaced() -> bool:
        statuses.append(system.deliver(event_body(new_id())).status)
        return worker not in descendants(master)

    assert eventually(is_replaced), system.logs()
    statuses.append(system.deliver(event_body(new_id())).status)
    assert set(statuses) == {202}, system.logs()


@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["SIGTERM", "SIGINT"])
def test_worker_that_is_not_ready_delays_no_end(postgres: Postgres, valkey: Valkey, number: Signals) -> None:
    with (
        temporary_folder() as folder,
        System(
            folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url, WEB_CONCURRENCY="2",
            GUNICORN_CMD_ARGS="--log-level info",
        ) as running,
    ):  # fmt: skip
        web = running.start("web")
        assert eventually(lambda: web.said.count("Booting worker") == 2)
        sent = time.monotonic()
        web.process.send_signal(number)
        assert web.process.wait(15) == 0
        # gunicorn gives a worker seven.
        assert time.monotonic() - sent < 6.0, web.said


def test_modules_of_the_master_block_no_event_loop(postgres: Postgres, valkey: Valkey) -> None:
    """They are imported before gevent replaces what waits; an application of nothing imports them no second time."""
    with (
        temporary_folder() as folder,
        System(folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url, WEB_CONCURRENCY="1") as running,
    ):
        running.run("bare", BARE)
        running.wait_for_web()
