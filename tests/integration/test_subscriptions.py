"""Subscriptions are sent changes: filters, bodies, order, retries, batches, leases, and what people do with them."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from service.config import load_alone
from service.mirror.erasure import erase_now
from service.subscriptions import addresses
from service.subscriptions.commands import SubscriptionBody
from service.subscriptions.policy import SendingPolicy
from tests.support.acting import TESTER
from tests.support.drainer import T0, minutes
from tests.support.sending import Sending, arrives
from tests.support.subscriber import HANG, RESET, SLOW, Subscriber
from tests.support.system import event_body, eventually, new_id, rows


def test_each_change_arrives_once_signed_and_in_order(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes()
        arrives(sending, subscriber)
        assert len(subscriber.change_ids) == 15
        assert len({request.message_id for request in subscriber.requests}) == 15
        assert eventually(lambda: sending.row()["cursor"] == 16)
    assert (sending.row()["delivered"], sending.row()["holder"]) == (15, None)
    assert rows(sending.drainer.url, "select * from headshotpro.subscription_deliveries") == []


def test_body_is_what_the_documents_say(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes(models=1, each=2)
        arrives(sending, subscriber)
        first, second = (request.document for request in subscriber.requests)
        assert (first["type"], second["type"]) == ("model.created", "model.changed")
        assert second["data"]["changed"] == {"status": ["waiting", "pending"]}
        assert second["data"]["row"]["status"] == "pending"
        assert not {"title", "email", "uid", "trigger"} & second["data"]["row"].keys()
        assert first["data"]["row"]["status"] == "waiting"


def test_personal_data_is_sent_where_it_is_wanted(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber, with_personal_data=True)
        sending.changes(models=1, each=2)
        arrives(sending, subscriber)
        (data,) = subscriber.requests[1].changes
        assert data["changed"]["title"] == ["T0", "T1"]
        assert data["row"]["title"] == "T1"


def test_filters_admit_by_status_and_team(sending: Sending) -> None:
    with Subscriber() as active, Subscriber() as team, sending.sender():
        sending.add(active, "active", statuses=("active", "failed"))
        sending.add(team, "team", teams=["nosuch"])
        sending.changes(each=4)
        arrives(sending, active, ["active", "failed"])
        assert eventually(lambda: sending.row("team")["read_to"] == 20)
        assert team.requests == []


def test_retry_is_identical_and_holds_up_its_model_alone(sending: Sending) -> None:
    def refuse_first(_number: int, request: Any) -> int:
        # The first change of the feed, twice.
        tries = sum(request.message_id == other.message_id for other in subscriber.requests)
        return 500 if request.changes[0]["id"] == 1 and tries <= 2 else 200

    with Subscriber(refuse_first) as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes()
        arrives(sending, subscriber)
        tries = [request for request in subscriber.requests if request.changes[0]["id"] == 1]
        assert len(tries) == 3
        assert len({(request.message_id, request.body) for request in tries}) == 1
        assert eventually(lambda: sending.row()["delivered"] == 15)
        assert sending.row()["failed_status"] == 500


def test_erased_fields_are_missing_on_a_retry(sending: Sending) -> None:
    with Subscriber(lambda number, _: 500) as subscriber:
        with sending.sender():
            sending.add(subscriber, with_personal_data=True)
            model = new_id()
            sending.drainer.take(event_body(model, at=T0, title="Ada", status="waiting"))
            sending.drainer.take(event_body(model, at=minutes(1), event="model.deleted", title="Ada"))
            assert eventually(lambda: len(subscriber.requests) >= 2)
        erase_now(sending.drainer.engine, model, TESTER)
        before = len(subscriber.requests)
        subscriber.behave = lambda number, _: 200
        with sending.sender():
            arrives(sending, subscriber)
    first, again = subscriber.requests[0], subscriber.requests[before]
    assert first.message_id == again.message_id
    assert b"Ada" in first.body
    assert not any(b"Ada" in request.body for request in subscriber.requests[before:])
    lost = {name for name, value in first.changes[0]["row"].items() if again.changes[0]["row"][name] != value}
    assert lost == {"title"}


@pytest.mark.parametrize("fault", [500, 301, 404, HANG, RESET, SLOW])
def test_every_kind_of_failure_is_tried_again(sending: Sending, fault: Any) -> None:
    with Subscriber(lambda number, _: fault if number <= 2 else 200) as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes(models=2, each=2)
        arrives(sending, subscriber)
        assert eventually(lambda: sending.row()["cursor"] == 5)
        assert sending.row()["failed_reason"]


def test_410_disables_and_keeps_the_cursor(sending: Sending) -> None:
    with Subscriber(lambda number, _: 410 if number == 2 else 200) as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes(models=1, each=3)
        assert eventually(lambda: sending.row()["state"] == "disabled")
        assert eventually(lambda: sending.row()["holder"] is None)
        assert (sending.row()["cursor"], sending.row()["reason"]) == (2, "the receiver responded 410")
        assert len(subscriber.requests) == 2
        sending.commands.resume("orders")
        arrives(sending, subscriber)


def test_dead_receiver_delays_no_other(sending: Sending) -> None:
    with Subscriber(lambda *_: HANG) as dead, Subscriber() as well, sending.sender():
        sending.add(dead, "dead")
        sending.add(well, "well")
        sending.changes(models=40, each=3)
        arrives(sending, well)
        # One request at a time tries whether it is back.
        assert len(dead.requests) < 40


def test_batches_hold_several_changes_and_repeat_as_they_were(sending: Sending) -> None:
    with Subscriber(lambda number, _: 503 if number == 1 else 200) as subscriber:
        sending.add(subscriber, batch=10)
        sending.changes(models=8, each=3)
        with sending.sender():
            arrives(sending, subscriber)
        first, again = (one for one in subscriber.requests if one.message_id == subscriber.requests[0].message_id)
        assert first.body == again.body
        assert {request.document["type"] for request in subscriber.requests} == {"model.batch"}
        assert 3 <= len(subscriber.requests) <= 6
        assert max(len(request.changes) for request in subscriber.requests) == 10


def test_paused_subscription_is_sent_nothing_until_resumed(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        sending.commands.pause("orders")
        assert eventually(lambda: sending.row()["holder"] is None)
        sending.changes()
        sending.commands.resume("orders")
        arrives(sending, subscriber)
        assert len(subscriber.change_ids) == 15


def test_resume_tries_at_once_what_waits_for_its_retry(sending: Sending) -> None:
    well = threading.Event()
    with (
        Subscriber(lambda *_: 204 if well.is_set() else 503) as subscriber,
        sending.sender(policy=SendingPolicy(first_retry=3600.0)),
    ):
        sending.add(subscriber)
        sending.changes(models=1, each=1)
        assert eventually(lambda: sending.row()["failed_status"] == 503)
        well.set()
        assert sending.row()["state"] == "active"
        sending.commands.resume("orders")
        arrives(sending, subscriber)


def test_replay_sends_again_under_new_ids(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        sending.changes(models=2, each=3)
        arrives(sending, subscriber)
        first = sending.commands.replay("orders", "4")
        assert first == 4
        assert eventually(lambda: len(subscriber.requests) == 9)
        assert sorted(subscriber.change_ids[6:]) == [4, 5, 6]
        assert len({request.message_id for request in subscriber.requests}) == 9


def test_both_secrets_sign_after_a_rotation(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        old = sending.add(subscriber)
        new = sending.commands.rotate("orders")
        subscriber.secrets = [old, new]
        # The sender reads the secrets with its leases.
        assert eventually(lambda: _tested(sending, subscriber))
        sending.changes(models=1, each=1)
        arrives(sending, subscriber)
        (request,) = (one for one in subscriber.requests if one.document["type"] != "subscription.test")
        assert len(request.headers["webhook-signature"].split(" ")) == 2


def _tested(sending: Sending, subscriber: Subscriber) -> bool:
    outcome = sending.commands.send_test("orders", load_alone({"DATABASE_URL": sending.drainer.url}, ()))
    return outcome.taken and len(subscriber.requests) > 0


def test_removed_subscription_is_sent_nothing_more(sending: Sending) -> None:
    with Subscriber() as subscriber, Subscriber() as other, sending.sender():
        sending.add(subscriber)
        sending.add(other, "other")
        sending.changes(models=1, each=1)
        arrives(sending, subscriber)
        sending.commands.remove("orders")
        # The sender notices when it renews its leases.
        assert eventually(lambda: sending.row("other")["leased_until"])
        for _ in range(2):
            renewed = sending.row("other")["leased_until"]
            assert eventually(lambda before=renewed: sending.row("other")["leased_until"] > before)
        sending.changes(models=1, each=1)
        arrives(sending, other)
        assert len(subscriber.requests) == 1


def test_refused_address_gets_no_connection(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        # In a rebinding attack the name resolves to another address by now.
        monkeypatch.setattr(addresses, "refusal", lambda address: f"{address} is a link-local address")
        sending.changes(models=1, each=1)
        assert eventually(lambda: "link-local" in (sending.row()["failed_reason"] or ""))
        assert subscriber.requests == []


def test_requests_go_through_the_proxy_unless_to_loopback(sending: Sending) -> None:
    with Subscriber() as proxy, Subscriber() as other, sending.sender(HTTP_PROXY=proxy.url.removesuffix("/hooks")):
        sending.add(other)
        sending.commands.add(SubscriptionBody("far", "http://receiver.invalid/hooks"))
        sending.changes(models=1, each=1)
        assert eventually(lambda: len(proxy.requests) == 1)
        arrives(sending, other)


def test_proxy_gets_no_request_for_a_refused_literal_address(sending: Sending) -> None:
    sending.commands.add(SubscriptionBody("orders", "http://receiver.invalid/hooks"))
    # `add` refuses it; a row that was written before such a rule does not.
    with psycopg.connect(sending.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set url = 'http://169.254.43518/latest/'")
    with Subscriber() as proxy, sending.sender(HTTP_PROXY=proxy.url.removesuffix("/hooks")):
        sending.changes(models=1, each=1)
        assert eventually(lambda: "link-local" in (sending.row()["failed_reason"] or ""))
        assert proxy.requests == []


def test_subscription_that_fails_for_three_days_is_failing(sending: Sending) -> None:
    policy = SendingPolicy(first_retry=0.05, longest_probe=0.1, failing_after=0.5, disabled_after=1.5)
    with capture_logs() as logs, Subscriber(lambda *_: 500) as subscriber, sending.sender(policy=policy):
        sending.add(subscriber)
        sending.changes(models=1, each=1)
        assert eventually(lambda: sending.row()["state"] == "failing")
        assert "the receiver responded 500" in sending.row()["reason"]
        assert eventually(lambda: sending.row()["state"] == "disabled")
        assert sending.row()["cursor"] == 1
    changes = [line for line in logs if line["event"] in ("subscription.failing", "subscription.disabled")]
    assert [(line["event"], line["log_level"], line["subscription"]) for line in changes] == [
        ("subscription.failing", "warning", "orders"), ("subscription.disabled", "warning", "orders"),
    ]  # fmt: skip
    assert all("the receiver responded 500" in line["reason"] for line in changes)


def test_damaged_secret_is_a_failure_with_its_reason(sending: Sending) -> None:
    sending.commands.add(SubscriptionBody("orders", "http://127.0.0.1:9/"))
    with psycopg.connect(sending.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set secret = 'whsec_x'")
    with sending.sender():
        sending.changes(models=1, each=1)
        assert eventually(lambda: "not sent" in (sending.row()["failed_reason"] or ""))
