"""What people do with subscriptions: what is refused, what an act leaves behind, and the test request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook

from service.config import load_alone
from service.errors import ApiError
from service.subscriptions.commands import SubscriptionBody
from tests.support.drainer import T0
from tests.support.subscriber import Subscriber
from tests.support.system import event_body, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.sending import Sending


def refusal(act: Callable[[], object]) -> int:
    """The HTTP status with which an act is refused."""
    with pytest.raises(ApiError) as refused:
        act()
    return refused.value.status


@pytest.mark.parametrize(
    "wanted",
    [
        SubscriptionBody("", "http://127.0.0.1/"),
        SubscriptionBody("a/b", "http://127.0.0.1/"),
        SubscriptionBody("a", "http://169.254.169.254/"),
        SubscriptionBody("a", "ftp://127.0.0.1/"),
        SubscriptionBody("a", "http://127.0.0.1/", batch=101),
        SubscriptionBody("a", "http://127.0.0.1/", statuses=("",)),
        SubscriptionBody("a", "http://127.0.0.1/", statuses=("active", "actve")),
    ],
)
def test_subscription_that_cannot_be_is_refused(sending: Sending, wanted: SubscriptionBody) -> None:
    assert refusal(lambda: sending.commands.add(wanted)) == 400
    assert rows(sending.drainer.url, "select * from headshotpro.subscriptions") == []


def test_status_that_only_models_have_can_be_subscribed_to(sending: Sending) -> None:
    wanted = SubscriptionBody("orders", "http://127.0.0.1/", statuses=("archived",))
    with pytest.raises(ApiError, match="no model has the status archived; the vendor documents onboarding"):
        sending.commands.add(wanted)
    sending.drainer.take(event_body(new_id(), at=T0, status="archived"))
    sending.commands.add(wanted)


def test_acts_on_missing_or_taken_names_are_refused(sending: Sending) -> None:
    commands, wanted = sending.commands, SubscriptionBody("orders", "http://127.0.0.1/")
    commands.add(wanted)
    assert refusal(lambda: commands.add(wanted)) == 409
    acts = (commands.pause, commands.resume, commands.rotate, commands.remove)
    assert [refusal(lambda act=act: act("nosuch")) for act in acts] == [404] * 4
    assert refusal(lambda: commands.replay("nosuch", None)) == 404
    assert refusal(lambda: commands.replay("orders", "yesterday")) == 400


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
