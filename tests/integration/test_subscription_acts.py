"""What people do with subscriptions: what is refused, what an act leaves behind, and the test request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook

from service.config import load_alone
from service.subscriptions.commands import (
    SubscriptionConflict,
    SubscriptionMissing,
    SubscriptionRefused,
    Wanted,
)
from tests.support.drainer import T0
from tests.support.subscriber import Subscriber
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from tests.support.sending import Sending


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("", "http://127.0.0.1/"),
        Wanted("a/b", "http://127.0.0.1/"),
        Wanted("a", "http://169.254.169.254/"),
        Wanted("a", "ftp://127.0.0.1/"),
        Wanted("a", "http://127.0.0.1/", batch=101),
        Wanted("a", "http://127.0.0.1/", statuses=[""]),
        Wanted("a", "http://127.0.0.1/", statuses=["active", "actve"]),
    ],
)
def test_subscription_that_cannot_be_is_refused(sending: Sending, wanted: Wanted) -> None:
    with pytest.raises(SubscriptionRefused):
        sending.commands.add(wanted)
    assert rows(sending.drainer.url, "select * from headshotpro.subscriptions") == []


def test_status_that_only_models_have_can_be_subscribed_to(sending: Sending) -> None:
    wanted = Wanted("orders", "http://127.0.0.1/", statuses=["archived"])
    with pytest.raises(SubscriptionRefused, match="no model has the status archived; the vendor documents onboarding"):
        sending.commands.add(wanted)
    sending.drainer.take(event_body(new_id(), at=T0, status="archived"))
    sending.commands.add(wanted)


def test_acts_on_missing_or_taken_names_are_refused(sending: Sending) -> None:
    sending.commands.add(Wanted("orders", "http://127.0.0.1/"))
    with pytest.raises(SubscriptionConflict):
        sending.commands.add(Wanted("orders", "http://127.0.0.1/"))
    for act in (sending.commands.pause, sending.commands.resume, sending.commands.rotate, sending.commands.remove):
        with pytest.raises(SubscriptionMissing):
            act("nosuch")
    with pytest.raises(SubscriptionMissing):
        sending.commands.replay("nosuch", None)
    with pytest.raises(SubscriptionRefused):
        sending.commands.replay("orders", "yesterday")


def test_each_act_leaves_one_row_without_a_secret(sending: Sending) -> None:
    with Subscriber() as subscriber:
        secret = sending.add(subscriber)
        sending.commands.pause("orders")
        sending.commands.resume("orders")
        sending.commands.replay("orders", None)
        new = sending.commands.rotate("orders")
        sending.commands.send_test("orders", load_alone({"DATABASE_URL": sending.drainer.url}, ()))
        sending.commands.remove("orders")
    acts = rows(sending.drainer.url, "select * from headshotpro.audit_log order by id")
    assert [act["action"].removeprefix("subscription.") for act in acts] == [
        "add", "pause", "resume", "replay", "rotate", "test", "remove",
    ]  # fmt: skip
    assert {(act["actor"], act["target"], act["outcome"]) for act in acts} == {("tester", "orders", "done")}
    assert secret not in str(acts)
    assert new not in str(acts)


def test_test_request_is_signed_and_says_what_it_is(sending: Sending) -> None:
    with Subscriber() as subscriber:
        secret = sending.add(subscriber)
        outcome = sending.commands.send_test("orders", load_alone({"DATABASE_URL": sending.drainer.url}, ()))
        assert (outcome.status, outcome.taken) == (204, True)
        (request,) = subscriber.requests
        document = Webhook(secret).verify(request.body, dict(request.headers))
        assert document == json.loads(request.body)
        assert (document["type"], document["data"]) == ("subscription.test", {})
