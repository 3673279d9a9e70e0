"""Notices: one message for all that happened at a time, to real receivers on loopback, each at least once."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from service.alerts.watch import WINDOW_SECONDS
from service.storage.database import transaction
from service.storage.notices import FIRST_PAUSE_SECONDS, LEASE_SECONDS, claim
from tests.support.alerting import Hook, Office, office, smtp_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpserver import HTTPServer

REMINDER = 3600


@pytest.fixture
def hook(httpserver: HTTPServer) -> Hook:
    return Hook(httpserver)


@pytest.fixture
def here(database_url: str, hook: Hook) -> Iterator[Office]:
    """A watched mirror of which the past is summed up, and its one receiver."""
    with opened(database_url, alert_urls=hook.url, alert_reminder_seconds=REMINDER) as here:
        yield here


@contextmanager
def opened(database_url: str, **settings: Any) -> Iterator[Office]:
    """An office of a mirror whose first pull was a year ago; no other is ever due."""
    with office(database_url, pull_interval_seconds=10**9, **settings) as here:
        if not here.sql("select id from headshotpro.pulls"):
            here.sql(
                "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
                "values ('full', 'complete', now(), now())"
            )
            here.look()
            here.let_pass(31_536_000)
        yield here


def fail(here: Office, number: int, since: float = 700) -> list[str]:
    """Models that were seen to fail so many seconds ago."""
    ids = [f"{place:024x}" for place in range(number)]
    here.sql(
        "with m as (insert into headshotpro.models (id, title, email, status, observed_at, updated_at) "
        "select id, 'Ann ' || id, id || '@example.com', 'failed', now(), now() from unnest(%s::text[]) as ids (id) "
        "on conflict (id) do update set status = 'failed' returning id) "
        "insert into headshotpro.model_changes "
        "(model_id, from_status, to_status, changed, source, observed_at, recorded_at) "
        "select id, 'pending', 'failed', '{}', 'webhook', t, t "
        f"from m, (select now() - interval '{since} seconds' as t) as past",
        ids,
    )
    return ids


def end(here: Office) -> None:
    """All models are active again."""
    here.sql("update headshotpro.models set status = 'active'")


# --- one message


@pytest.mark.parametrize("number", [1, 37, 500])
def test_failures_of_one_time_are_one_message(here: Office, hook: Hook, number: int) -> None:
    ids = fail(here, number)
    here.look()
    here.send()
    assert hook.got == []
    here.deliver()
    here.deliver()
    (message,) = hook.got
    assert message["title"] == f"headshot-mirror: {number} models failed".replace("1 models", "1 model")
    assert [model_id in message["message"] for model_id in ids] == [place < 5 for place in range(number)]
    assert "headshot-mirror alerts list" in message["message"]
    assert "Ann" not in message["message"]
    end(here)
    here.look()
    here.deliver()
    assert hook.titles[1:] == [
        "1 failed model is well again" if number == 1 else f"{number} failed models are well again"
    ]


def test_names_are_told_only_where_they_are_asked_for(database_url: str, hook: Hook) -> None:
    settings = {"alert_urls": hook.url, "alert_show_names": True, "public_url": "https://mirror.example.com/"}
    with opened(database_url, **settings) as here:
        (model_id, *_) = fail(here, 6)
        here.look()
        here.deliver()
        assert f"{model_id} (Ann {model_id})" in hook.got[0]["message"]
        assert hook.got[0]["message"].endswith("Look: https://mirror.example.com/")
        # What waits to be sent holds no name.
        kept = [
            *here.sql("select * from headshotpro.notices"),
            *here.alerts(),
            *here.sql("table headshotpro.receivers"),
        ]
        assert "Ann" not in str(kept)
        assert "secret" not in str(kept)


def test_an_alert_that_ends_in_its_own_window_is_never_told(here: Office, hook: Hook) -> None:
    fail(here, 3)
    here.look()
    here.let_pass(WINDOW_SECONDS - 5)
    end(here)
    here.look()
    here.deliver()
    here.let_pass(REMINDER)
    here.deliver()
    assert hook.got == []
    assert len(here.alerts(only_open=False)) == 3


def test_what_ends_while_it_is_handed_out_is_not_told_as_open(here: Office, hook: Hook) -> None:
    fail(here, 1)
    here.look()
    end(here)
    # Nobody has looked since then: the handing out does.
    here.let_pass(WINDOW_SECONDS)
    here.watch.tick()
    here.send()
    assert hook.got == []


# --- restarts


def test_a_restart_of_everything_sends_nothing_twice_and_loses_nothing(here: Office, hook: Hook) -> None:
    fail(here, 2)
    for step in (here.look, here.deliver, here.deliver):
        here.restart()
        step()
        here.restart()
    assert hook.titles == ["2 models failed"]
    end(here)
    here.look()
    here.restart()
    here.deliver()
    here.restart()
    here.deliver()
    assert hook.titles == ["2 models failed", "2 failed models are well again"]


def test_what_a_process_that_died_had_in_hand_is_sent_again(here: Office, hook: Hook) -> None:
    fail(here, 1)
    here.look()
    here.let_pass(WINDOW_SECONDS)
    here.look()
    (receiver,) = here.sql("select digest from headshotpro.receivers")
    with transaction(here.engine) as connection:
        assert claim(connection, receiver["digest"])
    here.restart()
    here.send()
    assert hook.got == []
    here.let_pass(LEASE_SECONDS)
    here.send()
    assert hook.titles == ["1 model failed"]


def test_two_processes_send_a_message_once(here: Office, hook: Hook, database_url: str) -> None:
    fail(here, 1)
    with opened(database_url, alert_urls=hook.url) as another:
        for one in (here, another):
            one.look()
        for one in (here, another):
            one.let_pass(WINDOW_SECONDS)
            one.look()
            one.desk.tick()
        for one in (here, another):
            one.desk.close(60)
            one.send()
    assert hook.titles == ["1 model failed"]


# --- receivers that are broken, slow, new


def test_a_receiver_that_is_broken_is_tried_again_and_stops_no_other(
    database_url: str, hook: Hook, httpserver: HTTPServer
) -> None:
    broken = Hook(httpserver, "/broken-token")
    broken.status = 500
    with (
        smtp_server() as (mail_url, mailbox),
        opened(database_url, alert_urls=f"{broken.url},{mail_url} , {hook.url}") as here,
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
        # It is left alone for a while, then told once, with what came in the meantime.
        end(here)
        here.look()
        broken.status = 200
        here.send()
        assert broken.got == []
        here.let_pass(FIRST_PAUSE_SECONDS)
        here.deliver()
        here.deliver()
        assert broken.titles == ["2 models failed; 2 failed models are well again"]
        assert hook.titles[1:] == ["2 failed models are well again"]
        assert here.sql("select failures, error from headshotpro.receivers where error is not null") == []


def test_pauses_grow_while_a_receiver_takes_nothing(here: Office, hook: Hook) -> None:
    hook.status = 503
    fail(here, 1)
    here.look()
    here.deliver()
    pauses = []
    for _ in range(8):
        (row,) = here.sql("select extract(epoch from retry_at - now())::float as left from headshotpro.receivers")
        pauses.append(row["left"])
        here.let_pass(row["left"] + 0.1)
        here.send()
    assert [round(pause, -1) for pause in pauses] == [10, 20, 40, 80, 160, 320, 640, 900]


def test_a_receiver_that_never_answers_holds_up_nobody(database_url: str, hook: Hook) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        slow = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=3"
        with opened(database_url, alert_urls=f"{slow},{hook.url}") as here:
            fail(here, 1)
            here.look()
            here.let_pass(WINDOW_SECONDS)
            here.look()
            here.desk.tick()
            waiting = [thread for thread in threading.enumerate() if thread in here.desk._sending.values()]
            assert len(waiting) == 2
            here.desk._sending[here_digest(here, hook)].join(30)
            assert hook.titles == ["1 model failed"]
            # The other is still at it, and no second attempt begins beside it.
            before = dict(here.desk._sending)
            here.let_pass(LEASE_SECONDS)
            here.desk.tick()
            assert {digest for digest, thread in here.desk._sending.items() if thread is not before[digest]} == set()
            here.desk.close(60)
            assert [row["failures"] for row in here.sql("select failures from headshotpro.receivers order by 1")] == [
                0,
                1,
            ]


def here_digest(here: Office, hook: Hook) -> str:
    (found,) = [digest for digest, receiver in here.desk._receivers.items() if receiver._url == hook.url]
    return found


def test_a_new_receiver_is_told_what_is_open_and_nothing_else(
    here: Office, hook: Hook, httpserver: HTTPServer, database_url: str
) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.sql("update headshotpro.models set status = 'active' where id = %s", f"{0:024x}")
    here.look()
    here.deliver()
    second = Hook(httpserver, "/second")
    with opened(database_url, alert_urls=f"{hook.url},{second.url}") as changed:
        changed.send()
        assert second.titles == ["1 model failed"]
        assert hook.titles == ["2 models failed", "1 failed model is well again"]


def test_without_receivers_alerts_are_opened_all_the_same(database_url: str) -> None:
    with opened(database_url) as here:
        fail(here, 2)
        here.look()
        here.deliver()
        assert len(here.alerts()) == 2
        assert here.sql("select * from headshotpro.notice_deliveries") == []


# --- reminders


def test_reminders_come_together_until_somebody_takes_note(here: Office, hook: Hook) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.let_pass(600)
    fail(here, 3)
    here.look()
    here.deliver()
    here.let_pass(REMINDER - 700)
    here.look()
    here.send()
    assert hook.titles == ["2 models failed", "1 model failed"]
    here.let_pass(200)
    here.look()
    here.send()
    here.restart()
    here.look()
    here.send()
    assert hook.titles[2:] == ["still open: 3 models failed"]
    here.sql("update headshotpro.alerts set acknowledged_at = now()")
    here.let_pass(3 * REMINDER)
    here.look()
    here.deliver()
    assert len(hook.got) == 3
    end(here)
    here.look()
    here.deliver()
    assert hook.titles[3:] == ["3 failed models are well again"]


def test_a_reminder_comes_with_what_is_told_at_that_time(here: Office, hook: Hook) -> None:
    fail(here, 1)
    here.look()
    here.deliver()
    here.let_pass(REMINDER - WINDOW_SECONDS)
    fail(here, 2)
    here.look()
    here.let_pass(WINDOW_SECONDS - 1)
    here.look()
    here.send()
    assert hook.titles == ["1 model failed"]
    here.deliver()
    assert hook.titles[1:] == ["1 model failed; still open: 1 model failed"]


def test_0_turns_reminders_off(database_url: str, hook: Hook) -> None:
    with opened(database_url, alert_urls=hook.url, alert_reminder_seconds=0) as here:
        fail(here, 1)
        here.look()
        here.deliver()
        here.let_pass(1_000_000)
        here.deliver()
        assert hook.titles == ["1 model failed"]


def test_reminders_that_a_broken_receiver_missed_are_told_once(here: Office, hook: Hook) -> None:
    fail(here, 1)
    here.look()
    here.deliver()
    hook.status = 500
    for _ in range(3):
        here.let_pass(REMINDER)
        here.look()
        here.send()
    hook.status = 200
    here.let_pass(REMINDER)
    here.look()
    here.send()
    assert hook.titles == ["1 model failed", "still open: 1 model failed"]


# --- the past


def test_the_past_is_told_in_one_message(database_url: str, hook: Hook) -> None:
    with office(database_url, alert_urls=hook.url) as here:
        ids = fail(here, 40)
        here.sql("update headshotpro.model_changes set from_status = null, source = 'pull'")
        here.sql(
            "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
            "values ('full', 'complete', now(), now())"
        )
        here.look()
        here.deliver()
        (message,) = hook.got
        assert message["title"] == "headshot-mirror: what the mirror found at its first look"
        assert "40 failed already" in message["message"]
        assert sum(model_id in message["message"] for model_id in ids) == 5
        assert here.alerts() == []


def test_old_notices_are_forgotten_but_for_what_is_open(here: Office, hook: Hook) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.sql("update headshotpro.models set status = 'active' where id = %s", f"{0:024x}")
    here.look()
    here.deliver()
    here.let_pass(8 * 86_400)
    here.restart()
    here.look()
    assert [row["what"] for row in here.sql("select what from headshotpro.notices order by id")] == [
        "opened",
        "reminder",
    ]
