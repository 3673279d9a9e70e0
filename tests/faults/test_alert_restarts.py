"""Alerts from the process that watches to real receivers, through kills, restarts and a receiver that is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.alerting import NotificationReceiver, smtp_server
from tests.support.processes import eventually
from tests.support.system import System, event_body, new_id, rows

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpserver import HTTPServer

    from tests.support.drainer import Drainer


# The promise is 30 s; the rest is for a loaded machine.
MAX_NOTIFICATION_SECONDS = 50.0


@pytest.mark.long
def test_each_alert_is_sent_once_although_the_clock_restarts(
    folder: Path, drainer: Drainer, httpserver: HTTPServer
) -> None:
    hook = NotificationReceiver(httpserver)
    model, blip = new_id(), new_id()
    with smtp_server() as (mail_url, mailbox):
        settings = {
            "DATABASE_URL": drainer.url,
            # Alerts need no Redis.
            "REDIS_URL": "redis://127.0.0.1:9",
            "FAILED_GRACE_SECONDS": "1",
            "ALERT_URLS": f"json://127.0.0.1:9/,{hook.url},{mail_url}",
        }
        with System(folder, **settings) as system:
            first = system.start("clock")
            drainer.take(event_body(model, status="failed"), event_body(blip, status="failed"))
            assert eventually(lambda: len(alerts(drainer)) == 2), system.logs()
            first.process.kill()
            first.process.wait()
            drainer.take(event_body(blip, status="active"))
            second = system.start("clock")
            assert eventually(lambda: hook.got and mailbox.mails, MAX_NOTIFICATION_SECONDS), system.logs()
            assert second.stop() == 0
            drainer.take(event_body(model, status="active"))
            system.start("clock")
            both = eventually(lambda: len(hook.got) == 2 and len(mailbox.mails) == 2, MAX_NOTIFICATION_SECONDS)
            assert both, system.logs()
            assert "hook-that-is-secret" not in system.logs()
    assert hook.titles == ["1 model failed", "1 failed model is well again"]
    assert model in hook.got[0]["message"]
    (broken,) = rows(drainer.url, "select failures from headshotpro.receivers where error is not null")
    assert broken["failures"] >= 2


def alerts(drainer: Drainer) -> list[dict[str, object]]:
    return rows(drainer.url, "select * from headshotpro.alerts where kind = 'model_failed'")
