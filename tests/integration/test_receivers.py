"""Receivers of notifications that are broken, slow, new, or none: no other waits for them, and nothing is lost."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

from service import log
from service.alerts.evaluator import NOTIFICATION_WINDOW_SECONDS
from service.alerts.notification import Message
from service.alerts.receivers import Receiver
from service.config import Settings
from service.storage.notifications import FIRST_RETRY_SECONDS, LEASE_SECONDS
from tests.support.alerting import NotificationReceiver, end, fail, settled, smtp_server
from tests.support.processes import TEST_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer

    from tests.support.alerting import AlertingHarness


def test_broken_receiver_is_retried_and_delays_no_other(
    database_url: str, hook: NotificationReceiver, httpserver: HTTPServer
) -> None:
    broken = NotificationReceiver(httpserver, "/broken-token")
    broken.status = 500
    with (
        smtp_server() as (mail_url, mailbox),
        settled(database_url, alert_urls=f"{broken.url},{mail_url} , {hook.url}") as here,
    ):
        fail(here, 2)
        here.look()
        here.deliver()
        assert hook.titles == ["2 models failed"]
        (mail,) = mailbox.mails
        assert "Subject: headshot-mirror: 2 models failed" in mail
        (state,) = here.sql("select failures, error from headshotpro.receivers where failures > 0")
        assert state["failures"] == 1
        assert "500" in state["error"]
        # It gets nothing for a while, then one message with everything that came in the meantime.
        end(here)
        here.look()
        broken.status = 200
        here.send()
        assert broken.got == []
        here.advance_time(FIRST_RETRY_SECONDS)
        here.deliver()
        here.deliver()
        assert broken.titles == ["2 models failed; 2 failed models are well again"]
        assert hook.titles[1:] == ["2 failed models are well again"]
        assert here.sql("select failures, error from headshotpro.receivers where error is not null") == []


def test_reason_of_a_failure_is_known_at_log_level_error(hook: NotificationReceiver) -> None:
    hook.status = 500
    try:
        log.configure(Settings(log_level="error"))
        answer = Receiver(hook.url).send(Message("title", "body", "info"))
    finally:
        log.configure(Settings())
    assert not answer.taken
    assert "500" in answer.reason


def test_pauses_grow_while_a_receiver_takes_nothing(here: AlertingHarness, hook: NotificationReceiver) -> None:
    hook.status = 503
    fail(here, 1)
    here.look()
    here.deliver()
    pauses = []
    for _ in range(8):
        (row,) = here.sql("select extract(epoch from retry_at - now())::float as left from headshotpro.receivers")
        pauses.append(row["left"])
        here.advance_time(row["left"] + 0.1)
        here.send()
    assert [round(pause, -1) for pause in pauses] == [10, 20, 40, 80, 160, 320, 640, 900]


def test_a_receiver_that_never_answers_holds_up_nobody(database_url: str, hook: NotificationReceiver) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        slow = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=60"
        with settled(database_url, alert_urls=f"{slow},{hook.url}") as here:
            fail(here, 1)
            here.look()
            here.advance_time(NOTIFICATION_WINDOW_SECONDS)
            here.look()
            here.desk.tick()
            assert len(here.desk._sending) == 2
            here.desk._sending[here_digest(here, hook)].join(TEST_TIMEOUT_SECONDS)
            assert hook.titles == ["1 model failed"]
            # The other is still at it, and no second attempt begins beside it.
            before = dict(here.desk._sending)
            assert sum(thread.is_alive() for thread in before.values()) == 1
            here.advance_time(LEASE_SECONDS)
            here.desk.tick()
            assert {digest for digest, thread in here.desk._sending.items() if thread is not before[digest]} == set()
            # This resets its connection.
            silent.close()
            here.desk.close(60)
            assert [row["failures"] for row in here.sql("select failures from headshotpro.receivers order by 1")] == [
                0,
                1,
            ]


def here_digest(here: AlertingHarness, hook: NotificationReceiver) -> str:
    (found,) = [digest for digest, receiver in here.desk._receivers.items() if receiver._url == hook.url]
    return found


def test_a_new_receiver_is_told_what_is_open_and_nothing_else(
    here: AlertingHarness, hook: NotificationReceiver, httpserver: HTTPServer, database_url: str
) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.sql("update headshotpro.models set status = 'active' where id = %s", f"{0:024x}")
    here.look()
    here.deliver()
    second = NotificationReceiver(httpserver, "/second")
    with settled(database_url, alert_urls=f"{hook.url},{second.url}") as changed:
        changed.send()
        assert second.titles == ["1 model failed"]
        assert hook.titles == ["2 models failed", "1 failed model is well again"]


def test_without_receivers_alerts_are_opened_all_the_same(database_url: str) -> None:
    with settled(database_url) as here:
        fail(here, 2)
        here.look()
        here.deliver()
        assert len(here.alerts()) == 2
        assert here.sql("select * from headshotpro.notification_deliveries") == []
