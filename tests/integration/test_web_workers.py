"""Web goes on accepting deliveries while its one worker is stopped, killed or replaced."""

from __future__ import annotations

import os
from signal import SIGHUP, SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import descendants, eventually
from tests.support.system import System, event_body, new_id

if TYPE_CHECKING:
    from pathlib import Path
    from signal import Signals


@pytest.mark.parametrize(("target", "sent"), [("worker", SIGTERM), ("worker", SIGHUP), ("master", SIGHUP)], ids=str)
def test_web_accepts_while_its_worker_is_replaced(
    target: str, sent: Signals, folder: Path, database_url: str, redis_url: str
) -> None:
    with System(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, WEB_CONCURRENCY="1") as system:
        master = system.start("web").process.pid
        system.wait_for_web()
        (worker,) = descendants(master)
        os.kill(worker if target == "worker" else master, sent)
        statuses: list[int] = []

        def is_replaced() -> bool:
            statuses.append(system.deliver(event_body(new_id())).status)
            return worker not in descendants(master)

        assert eventually(is_replaced, 30), system.logs()
        statuses.append(system.deliver(event_body(new_id())).status)
        assert set(statuses) == {202}, system.logs()
