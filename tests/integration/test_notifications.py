"""Notices: one message for all that happened at a time, to real receivers on loopback, each at least once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.alerts.evaluator import NOTIFICATION_WINDOW_SECONDS
from service.mirror.retention import RetentionLimits, apply_limits
from service.storage.database import transaction
from service.storage.notifications import LEASE_SECONDS, claim
from tests.support.alerting import REMINDER, alerting_harness, end, fail, settled

if TYPE_CHECKING:
    from tests.support.alerting import AlertingHarness, NotificationReceiver


# --- one message


@pytest.mark.parametrize("number", [1, 37, 500])
def test_failures_of_one_time_are_one_message(here: AlertingHarness, hook: NotificationReceiver, number: int) -> None:
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


def test_names_are_told_only_where_they_are_asked_for(database_url: str, hook: NotificationReceiver) -> None:
    settings = {"alert_urls": hook.url, "alert_show_names": True, "public_url": "https://mirror.example.com/"}
    with settled(database_url, **settings) as here:
        (model_id, *_) = fail(here, 6)
        here.look()
        here.deliver()
        assert f"{model_id} (Ann {model_id})" in hook.got[0]["message"]
        assert hook.got[0]["message"].endswith("This mirror: https://mirror.example.com/")
        # The outbox holds no name.
        kept = [
            *here.sql("select * from headshotpro.notifications"),
            *here.alerts(),
            *here.sql("table headshotpro.receivers"),
        ]
        assert "Ann" not in str(kept)
        assert "secret" not in str(kept)


def test_an_alert_that_ends_in_its_own_window_is_never_told(here: AlertingHarness, hook: NotificationReceiver) -> None:
    fail(here, 3)
    here.look()
    here.advance_time(NOTIFICATION_WINDOW_SECONDS - 5)
    end(here)
    here.look()
    here.deliver()
    here.advance_time(REMINDER)
    here.deliver()
    assert hook.got == []
    assert len(here.alerts(only_open=False)) == 3


def test_what_ends_while_it_is_handed_out_is_not_told_as_open(
    here: AlertingHarness, hook: NotificationReceiver
) -> None:
    fail(here, 1)
    here.look()
    end(here)
    # Nobody has looked since then: the handing out does.
    here.advance_time(NOTIFICATION_WINDOW_SECONDS)
    here.watch.tick()
    here.send()
    assert hook.got == []


def test_message_names_pull_event_and_organization_by_time(here: AlertingHarness, hook: NotificationReceiver) -> None:
    here.sql("insert into headshotpro.organization (uid, name, recorded_at) values ('org_1', 'Initech Ltd', now())")
    held = (
        "insert into headshotpro.pulls (kind, status, started_at, finished_at, pages) "
        "values ('full', 'held', now(), now(), 3) returning id"
    )
    (first,) = here.sql(held)
    here.look()
    here.deliver()
    # A person decides, and the next pull is held as well: the message has to end with the one that waits.
    here.sql("update headshotpro.pulls set status = 'complete'")
    here.look()
    here.advance_time(5)
    (second,) = here.sql(held)
    here.sql(
        "insert into headshotpro.webhook_events (id, event, status, payload, created_at, received_at, processed_at) "
        "values ('evt_dead', 'model.updated', 'dead', '{}', now(), now(), now())"
    )
    here.look()
    here.deliver()
    message = hook.got[1]["message"]
    assert [line.partition("  ")[2] for line in message.splitlines()[:3]] == [
        f"the pull no longer waits for a person: pull {first['id']}",
        "events could not be applied: 1 event: evt_dead",
        f"a pull waits for a person: pull {second['id']}",
    ]
    assert "Organization: Initech Ltd (org_1)" in message
    assert hook.titles[1] == "events could not be applied; a pull waits for a person"


# --- restarts


def test_restarts_send_no_notification_twice_and_lose_none(here: AlertingHarness, hook: NotificationReceiver) -> None:
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


def test_what_a_process_that_died_had_in_hand_is_sent_again(here: AlertingHarness, hook: NotificationReceiver) -> None:
    fail(here, 1)
    here.look()
    here.advance_time(NOTIFICATION_WINDOW_SECONDS)
    here.look()
    (receiver,) = here.sql("select digest from headshotpro.receivers")
    with transaction(here.engine) as connection:
        assert claim(connection, receiver["digest"])
    with transaction(here.engine) as connection:
        assert not claim(connection, receiver["digest"])
    here.restart()
    here.send()
    assert hook.got == []
    here.advance_time(LEASE_SECONDS)
    here.send()
    assert hook.titles == ["1 model failed"]


def test_two_processes_send_a_message_once(
    here: AlertingHarness, hook: NotificationReceiver, database_url: str
) -> None:
    fail(here, 1)
    with settled(database_url, alert_urls=hook.url) as another:
        for one in (here, another):
            one.look()
        for one in (here, another):
            one.advance_time(NOTIFICATION_WINDOW_SECONDS)
            one.look()
            one.desk.tick()
        for one in (here, another):
            one.desk.close(60)
            one.send()
    assert hook.titles == ["1 model failed"]


# --- reminders


def test_reminders_come_together_until_somebody_takes_note(here: AlertingHarness, hook: NotificationReceiver) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.advance_time(600)
    fail(here, 3)
    here.look()
    here.deliver()
    here.advance_time(REMINDER - 700)
    here.look()
    here.send()
    assert hook.titles == ["2 models failed", "1 model failed"]
    here.advance_time(200)
    here.look()
    here.send()
    here.restart()
    here.look()
    here.send()
    assert hook.titles[2:] == ["still open: 3 models failed"]
    here.sql("update headshotpro.alerts set acknowledged_at = now()")
    here.advance_time(3 * REMINDER)
    here.look()
    here.deliver()
    assert len(hook.got) == 3
    end(here)
    here.look()
    here.deliver()
    assert hook.titles[3:] == ["3 failed models are well again"]


def test_a_reminder_comes_with_what_is_told_at_that_time(here: AlertingHarness, hook: NotificationReceiver) -> None:
    fail(here, 1)
    here.look()
    here.deliver()
    here.advance_time(REMINDER - 10)
    fail(here, 2)
    here.look()
    here.advance_time(NOTIFICATION_WINDOW_SECONDS - 1)
    here.look()
    here.send()
    assert hook.titles == ["1 model failed"]
    here.deliver()
    assert hook.titles[1:] == ["1 model failed; still open: 1 model failed"]


def test_0_turns_reminders_off(database_url: str, hook: NotificationReceiver) -> None:
    with settled(database_url, alert_urls=hook.url, alert_reminder_seconds=0) as here:
        fail(here, 1)
        here.look()
        here.deliver()
        here.advance_time(1_000_000)
        here.deliver()
        assert hook.titles == ["1 model failed"]


def test_reminders_that_a_broken_receiver_missed_are_told_once(
    here: AlertingHarness, hook: NotificationReceiver
) -> None:
    fail(here, 1)
    here.look()
    here.deliver()
    hook.status = 500
    for _ in range(3):
        here.advance_time(REMINDER)
        here.look()
        here.send()
    hook.status = 200
    here.advance_time(REMINDER)
    here.look()
    here.send()
    assert hook.titles == ["1 model failed", "still open: 1 model failed"]


# --- the past


def test_the_past_is_told_in_one_message(database_url: str, hook: NotificationReceiver) -> None:
    with alerting_harness(database_url, alert_urls=hook.url) as here:
        ids = fail(here, 40)
        here.sql("update headshotpro.model_changes set from_status = null, source = 'pull'")
        here.sql(
            "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
            "values ('full', 'complete', now(), now())"
        )
        here.look()
        here.deliver()
        (message,) = hook.got
        assert message["title"] == "headshot-mirror: models that had failed or were stuck before the mirror started"
        assert "40 failed already" in message["message"]
        assert sum(model_id in message["message"] for model_id in ids) == 5
        assert here.alerts() == []


def test_old_notices_are_forgotten_but_for_what_is_open(here: AlertingHarness, hook: NotificationReceiver) -> None:
    fail(here, 2)
    here.look()
    here.deliver()
    here.sql("update headshotpro.models set status = 'active' where id = %s", f"{0:024x}")
    here.look()
    here.deliver()
    here.advance_time(8 * 86_400)
    here.restart()
    here.look()
    assert apply_limits(here.engine, RetentionLimits(events=36500, history=0, personal=36500), 30)
    assert [row["reason"] for row in here.sql("select reason from headshotpro.notifications order by id")] == [
        "opened",
        "reminder",
    ]
