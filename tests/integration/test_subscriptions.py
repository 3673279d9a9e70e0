"""Subscriptions are sent changes: filters, bodies, order, retries, batches, leases, and what people do with them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from service.config import load_alone
from service.mirror.erasure import erase_now
from service.storage import database
from service.subscriptions import addresses
from service.subscriptions.commands import (
    SubscriptionCommands,
    SubscriptionConflict,
    SubscriptionMissing,
    SubscriptionRefused,
    Wanted,
)
from service.subscriptions.leases import Leases
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.receiver import ReceiverClient, SendOutcome
from service.subscriptions.sender import SubscriptionSender
from tests.support.acting import TESTER
from tests.support.drainer import T0, minutes
from tests.support.subscriber import HANG, RESET, SLOW, Subscriber, admitted
from tests.support.system import event_body, eventually, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.drainer import Drainer

QUICK = SendingPolicy(first_retry=0.05, longest_retry=0.2, longest_probe=0.2)
TIMING = SenderTiming(sync=0.2)


class Sending:
    """Senders over one database, each as a process of its own has it."""

    def __init__(self, drainer: Drainer) -> None:
        self.drainer = drainer
        self.commands = SubscriptionCommands(drainer.engine, TESTER)

    @contextmanager
    def sender(
        self, holder: str = "a", policy: SendingPolicy = QUICK, timing: SenderTiming = TIMING, **settings: str
    ) -> Iterator[None]:
        """A sender that runs until the block ends."""
        loaded = load_alone({"DATABASE_URL": self.drainer.url, **settings}, ())
        client = ReceiverClient(loaded, deadline=1.0)
        engine = database.connect(self.drainer.url)
        stop = threading.Event()
        sender = SubscriptionSender(engine, client, holder, policy, timing)
        thread = threading.Thread(target=sender.run, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
            engine.dispose()
            assert not thread.is_alive()

    def add(self, subscriber: Subscriber, name: str = "orders", **wanted: Any) -> str:
        secret = self.commands.add(Wanted(name, subscriber.url, **wanted))
        subscriber.secrets = [secret]
        return secret

    def row(self, name: str = "orders") -> dict[str, Any]:
        (found,) = rows(self.drainer.url, "select * from headshotpro.subscriptions where name = %s", name)
        return found

    def changes(self, models: int = 5, each: int = 3, **fields: Any) -> None:
        """Some models, each with a first status and then others."""
        ids = [new_id() for _ in range(models)]
        for step in range(each):
            status = ("waiting", "pending", "active", "failed")[step % 4]
            bodies = [event_body(model, at=minutes(step), status=status, title=f"T{step}", **fields) for model in ids]
            self.drainer.take(*bodies)


@pytest.fixture
def here(drainer: Drainer) -> Sending:
    return Sending(drainer)


def arrives(here: Sending, subscriber: Subscriber, statuses: list[str] | None = None) -> None:
    """Every change that the filter admits arrives, in order for each model, and no other."""
    expected = admitted(here.drainer.url, statuses)
    assert eventually(lambda: subscriber.by_model() == expected, 20), (subscriber.by_model(), expected)


def test_each_change_arrives_once_signed_and_in_order(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        here.changes()
        arrives(here, subscriber)
        assert len(subscriber.change_ids) == 15
        assert len({request.message_id for request in subscriber.requests}) == 15
        assert eventually(lambda: here.row()["cursor"] == 16)
    assert (here.row()["delivered"], here.row()["holder"]) == (15, None)
    assert rows(here.drainer.url, "select * from headshotpro.subscription_deliveries") == []


def test_body_is_what_the_documents_say(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        here.changes(models=1, each=2)
        arrives(here, subscriber)
        first, second = (request.document for request in subscriber.requests)
        assert (first["type"], second["type"]) == ("model.created", "model.changed")
        assert second["data"]["changed"] == {"status": ["waiting", "pending"]}
        assert second["data"]["row"]["status"] == "pending"
        assert not {"title", "email", "uid", "trigger"} & second["data"]["row"].keys()
        assert first["data"]["row"]["status"] == "waiting"


def test_personal_data_is_sent_where_it_is_wanted(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber, with_personal_data=True)
        here.changes(models=1, each=2)
        arrives(here, subscriber)
        (data,) = subscriber.requests[1].changes
        assert data["changed"]["title"] == ["T0", "T1"]
        assert data["row"]["title"] == "T1"


def test_filters_admit_by_status_and_team(here: Sending) -> None:
    with Subscriber() as active, Subscriber() as team, here.sender():
        here.add(active, "active", statuses=["active", "failed"])
        here.add(team, "team", teams=["nosuch"])
        here.changes(each=4)
        arrives(here, active, ["active", "failed"])
        assert eventually(lambda: here.row("team")["read_to"] == 20)
        assert team.requests == []


def test_retry_is_identical_and_holds_up_its_model_alone(here: Sending) -> None:
    def refuse_first(_number: int, request: Any) -> int:
        # The first change of the feed, twice.
        tries = sum(request.message_id == other.message_id for other in subscriber.requests)
        return 500 if request.changes[0]["id"] == 1 and tries <= 2 else 200

    with Subscriber(refuse_first) as subscriber, here.sender():
        here.add(subscriber)
        here.changes()
        arrives(here, subscriber)
        tries = [request for request in subscriber.requests if request.changes[0]["id"] == 1]
        assert len(tries) == 3
        assert len({(request.message_id, request.body) for request in tries}) == 1
        assert eventually(lambda: here.row()["delivered"] == 15)
        assert here.row()["failed_status"] == 500


def test_erased_fields_are_missing_on_a_retry(here: Sending) -> None:
    with Subscriber(lambda number, _: 500) as subscriber:
        with here.sender():
            here.add(subscriber, with_personal_data=True)
            model = new_id()
            here.drainer.take(event_body(model, at=T0, title="Ada", status="waiting"))
            here.drainer.take(event_body(model, at=minutes(1), event="model.deleted", title="Ada"))
            assert eventually(lambda: len(subscriber.requests) >= 2)
        erase_now(here.drainer.engine, model, TESTER)
        before = len(subscriber.requests)
        subscriber.behave = lambda number, _: 200
        with here.sender():
            arrives(here, subscriber)
    first, again = subscriber.requests[0], subscriber.requests[before]
    assert first.message_id == again.message_id
    assert b"Ada" in first.body
    assert not any(b"Ada" in request.body for request in subscriber.requests[before:])
    lost = {name for name, value in first.changes[0]["row"].items() if again.changes[0]["row"][name] != value}
    assert lost == {"title"}


@pytest.mark.parametrize("fault", [500, 301, 404, HANG, RESET, SLOW])
def test_every_kind_of_failure_is_tried_again(here: Sending, fault: Any) -> None:
    with Subscriber(lambda number, _: fault if number <= 2 else 200) as subscriber, here.sender():
        here.add(subscriber)
        here.changes(models=2, each=2)
        arrives(here, subscriber)
        assert eventually(lambda: here.row()["cursor"] == 5)
        assert here.row()["failed_reason"]


def test_410_disables_and_keeps_the_cursor(here: Sending) -> None:
    with Subscriber(lambda number, _: 410 if number == 2 else 200) as subscriber, here.sender():
        here.add(subscriber)
        here.changes(models=1, each=3)
        assert eventually(lambda: here.row()["state"] == "disabled")
        assert eventually(lambda: here.row()["holder"] is None)
        assert (here.row()["cursor"], here.row()["reason"]) == (2, "the receiver responded 410")
        assert len(subscriber.requests) == 2
        here.commands.resume("orders")
        arrives(here, subscriber)


def test_dead_receiver_delays_no_other(here: Sending) -> None:
    with Subscriber(lambda *_: HANG) as dead, Subscriber() as well, here.sender():
        here.add(dead, "dead")
        here.add(well, "well")
        here.changes(models=40, each=3)
        arrives(here, well)
        # One request at a time tries whether it is back.
        assert len(dead.requests) < 40


def test_batches_hold_several_changes_and_repeat_as_they_were(here: Sending) -> None:
    with Subscriber(lambda number, _: 503 if number == 1 else 200) as subscriber:
        here.add(subscriber, batch=10)
        here.changes(models=8, each=3)
        with here.sender():
            arrives(here, subscriber)
        first, again = (one for one in subscriber.requests if one.message_id == subscriber.requests[0].message_id)
        assert first.body == again.body
        assert {request.document["type"] for request in subscriber.requests} == {"model.batch"}
        assert 3 <= len(subscriber.requests) <= 6
        assert max(len(request.changes) for request in subscriber.requests) == 10


def test_next_process_goes_on_where_the_last_one_ended(here: Sending) -> None:
    with Subscriber() as subscriber:
        here.add(subscriber)
        with here.sender("a"):
            here.changes()
            arrives(here, subscriber)
        here.changes()
        with here.sender("b"):
            arrives(here, subscriber)
    assert len(subscriber.change_ids) == 30


def test_two_processes_share_no_subscription(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender("a"), here.sender("b"):
        here.add(subscriber)
        here.changes(models=10, each=4)
        arrives(here, subscriber)
        assert len(subscriber.change_ids) == 40


def test_second_process_gets_its_share_and_loses_nothing(here: Sending) -> None:
    def held() -> list[str]:
        query = "select coalesce(holder, '') as holder from headshotpro.subscriptions order by 1"
        return [row["holder"] for row in rows(here.drainer.url, query)]

    with Subscriber() as subscriber, here.sender("a"):
        here.add(subscriber)
        for number in range(4):
            here.commands.add(Wanted(f"other{number}", subscriber.url, statuses=["onboarding"]))
        assert eventually(lambda: held() == ["a"] * 5)
        with here.sender("b"):
            here.changes(models=10, each=2)
            assert eventually(lambda: held() == ["a", "a", "a", "b", "b"])
            here.changes(models=10, each=2)
            arrives(here, subscriber)
        assert len(subscriber.change_ids) == 40
        assert eventually(lambda: held() == ["a"] * 5)


def test_processes_come_to_even_shares_and_keep_them(here: Sending) -> None:
    for number in range(5):
        here.commands.add(Wanted(f"s{number}", "http://127.0.0.1:9/"))
    leases = {name: Leases(here.drainer.engine, name, SendingPolicy(), SenderTiming()) for name in "abc"}

    def after_rounds(names: str) -> list[set[int]]:
        for _ in range(4):
            for name in names:
                leases[name].sync()
        return [{state.row["id"] for state in leases[name].open} for name in names]

    assert [len(held) for held in after_rounds("a")] == [5]
    assert [len(held) for held in after_rounds("ab")] == [3, 2]
    shared = after_rounds("abc")
    assert ([len(held) for held in shared], len(set.union(*shared))) == ([2, 2, 1], 5)
    assert after_rounds("abc") == shared
    leases["b"].release()
    assert sorted(len(held) for held in after_rounds("ac")) == [2, 3]


def test_request_of_a_process_that_stops_ends(here: Sending) -> None:
    for number in range(2):
        here.commands.add(Wanted(f"s{number}", "http://127.0.0.1:9/"))
    first, second = (Leases(here.drainer.engine, name, SendingPolicy(), SenderTiming()) for name in "ab")
    for leases in (first, second, first, first):
        leases.sync()
    # Let go, and not taken yet.
    assert (len(first.states), len(second.states)) == (1, 0)
    second.release()
    first.sync()
    assert len(first.open) == 2


def test_paused_subscription_is_sent_nothing_until_resumed(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        here.commands.pause("orders")
        assert eventually(lambda: here.row()["holder"] is None)
        here.changes()
        here.commands.resume("orders")
        arrives(here, subscriber)
        assert len(subscriber.change_ids) == 15


def test_resume_tries_at_once_what_waits_for_its_retry(here: Sending) -> None:
    well = threading.Event()
    with (
        Subscriber(lambda *_: 204 if well.is_set() else 503) as subscriber,
        here.sender(policy=SendingPolicy(first_retry=3600.0)),
    ):
        here.add(subscriber)
        here.changes(models=1, each=1)
        assert eventually(lambda: here.row()["failed_status"] == 503)
        well.set()
        assert here.row()["state"] == "active"
        here.commands.resume("orders")
        arrives(here, subscriber)


def test_replay_sends_again_under_new_ids(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        here.changes(models=2, each=3)
        arrives(here, subscriber)
        first = here.commands.replay("orders", "4")
        assert first == 4
        assert eventually(lambda: len(subscriber.requests) == 9)
        assert sorted(subscriber.change_ids[6:]) == [4, 5, 6]
        assert len({request.message_id for request in subscriber.requests}) == 9


def test_both_secrets_sign_after_a_rotation(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        old = here.add(subscriber)
        new = here.commands.rotate("orders")
        subscriber.secrets = [old, new]
        # The sender reads the secrets with its leases.
        assert eventually(lambda: _tested(here, subscriber))
        here.changes(models=1, each=1)
        arrives(here, subscriber)
        (request,) = (one for one in subscriber.requests if one.document["type"] != "subscription.test")
        assert len(request.headers["webhook-signature"].split(" ")) == 2


def _tested(here: Sending, subscriber: Subscriber) -> bool:
    outcome = here.commands.send_test("orders", load_alone({"DATABASE_URL": here.drainer.url}, ()))
    return outcome.taken and len(subscriber.requests) > 0


def test_removed_subscription_is_sent_nothing_more(here: Sending) -> None:
    with Subscriber() as subscriber, Subscriber() as other, here.sender():
        here.add(subscriber)
        here.add(other, "other")
        here.changes(models=1, each=1)
        arrives(here, subscriber)
        here.commands.remove("orders")
        # The sender notices when it renews its leases.
        assert eventually(lambda: here.row("other")["leased_until"])
        for _ in range(2):
            renewed = here.row("other")["leased_until"]
            assert eventually(lambda before=renewed: here.row("other")["leased_until"] > before)
        here.changes(models=1, each=1)
        arrives(here, other)
        assert len(subscriber.requests) == 1


def test_refused_address_gets_no_connection(here: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        # In a rebinding attack the name resolves to another address by now.
        monkeypatch.setattr(addresses, "refusal", lambda address: f"{address} is a link-local address")
        here.changes(models=1, each=1)
        assert eventually(lambda: "link-local" in (here.row()["failed_reason"] or ""))
        assert subscriber.requests == []


def test_requests_go_through_the_proxy_unless_to_loopback(here: Sending) -> None:
    with Subscriber() as proxy, Subscriber() as other, here.sender(HTTP_PROXY=proxy.url.removesuffix("/hooks")):
        here.add(other)
        here.commands.add(Wanted("far", "http://receiver.invalid/hooks"))
        here.changes(models=1, each=1)
        assert eventually(lambda: len(proxy.requests) == 1)
        arrives(here, other)


def test_proxy_gets_no_request_for_a_refused_literal_address(here: Sending) -> None:
    here.commands.add(Wanted("orders", "http://receiver.invalid/hooks"))
    # `add` refuses it; a row that was written before such a rule does not.
    with psycopg.connect(here.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set url = 'http://169.254.43518/latest/'")
    with Subscriber() as proxy, here.sender(HTTP_PROXY=proxy.url.removesuffix("/hooks")):
        here.changes(models=1, each=1)
        assert eventually(lambda: "link-local" in (here.row()["failed_reason"] or ""))
        assert proxy.requests == []


def test_subscription_that_fails_for_three_days_is_failing(here: Sending) -> None:
    policy = SendingPolicy(first_retry=0.05, longest_probe=0.1, failing_after=0.5, disabled_after=1.5)
    with capture_logs() as logs, Subscriber(lambda *_: 500) as subscriber, here.sender(policy=policy):
        here.add(subscriber)
        here.changes(models=1, each=1)
        assert eventually(lambda: here.row()["state"] == "failing")
        assert "the receiver responded 500" in here.row()["reason"]
        assert eventually(lambda: here.row()["state"] == "disabled")
        assert here.row()["cursor"] == 1
    changes = [line for line in logs if line["event"] in ("subscription.failing", "subscription.disabled")]
    assert [(line["event"], line["log_level"], line["subscription"]) for line in changes] == [
        ("subscription.failing", "warning", "orders"), ("subscription.disabled", "warning", "orders"),
    ]  # fmt: skip
    assert all("the receiver responded 500" in line["reason"] for line in changes)


def test_lost_lease_stops_the_sender_and_its_writing(here: Sending) -> None:
    with Subscriber() as subscriber, here.sender():
        here.add(subscriber)
        assert eventually(lambda: here.row()["holder"] == "a")
        with psycopg.connect(here.drainer.url, autocommit=True) as connection:
            connection.execute(
                "update headshotpro.subscriptions set holder = 'b', leased_until = now() + interval '1 hour'"
            )
        before = here.row()["read_to"]
        here.changes(models=1, each=1)
        assert eventually(lambda: not threading.Event().wait(1.0))
        assert (here.row()["holder"], here.row()["read_to"]) == ("b", before)
        assert len(subscriber.requests) <= 1


def test_request_does_not_begin_where_reads_outlast_the_lease(here: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Client(ReceiverClient):
        def send(self, url: str, message_id: str, body: bytes, signing_secrets: Sequence[str]) -> SendOutcome:
            sent.append(message_id)
            return SendOutcome(204)

    held = iter([True, False, *[True] * 1000])
    monkeypatch.setattr(Leases, "hold", property(lambda _leases: next(held)))
    here.commands.add(Wanted("orders", "http://127.0.0.1:9/"))
    here.changes(models=1, each=1)
    sender = SubscriptionSender(here.drainer.engine, Client(load_alone({"DATABASE_URL": here.drainer.url}, ())), "a")
    sender.tick()
    assert sent == []
    assert eventually(lambda: sender.tick() or sent)


def test_damaged_secret_is_a_failure_with_its_reason(here: Sending) -> None:
    here.commands.add(Wanted("orders", "http://127.0.0.1:9/"))
    with psycopg.connect(here.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set secret = 'whsec_x'")
    with here.sender():
        here.changes(models=1, each=1)
        assert eventually(lambda: "not sent" in (here.row()["failed_reason"] or ""))


def test_lease_that_was_lost_and_regained_begins_anew(here: Sending) -> None:
    """Another process may have sent and acknowledged meanwhile: what this one knows is out of date."""
    here.commands.add(Wanted("orders", "http://127.0.0.1:9/"))
    first, second = (Leases(here.drainer.engine, name, SendingPolicy(), SenderTiming()) for name in "ab")
    first.sync()
    (stale,) = first.open
    with psycopg.connect(here.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set leased_until = now()")
        second.sync()
        second.release()
        connection.execute("update headshotpro.subscriptions set read_to = 7, cursor = 8")
    first.sync()
    assert first.open == []
    first.sync()
    (fresh,) = first.open
    assert (fresh is not stale, fresh.window.read_to) == (True, 7)


# --- people


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
def test_subscription_that_cannot_be_is_refused(here: Sending, wanted: Wanted) -> None:
    with pytest.raises(SubscriptionRefused):
        here.commands.add(wanted)
    assert rows(here.drainer.url, "select * from headshotpro.subscriptions") == []


def test_status_that_only_models_have_can_be_subscribed_to(here: Sending) -> None:
    wanted = Wanted("orders", "http://127.0.0.1/", statuses=["archived"])
    with pytest.raises(SubscriptionRefused, match="no model has the status archived; the vendor documents onboarding"):
        here.commands.add(wanted)
    here.drainer.take(event_body(new_id(), at=T0, status="archived"))
    here.commands.add(wanted)


def test_acts_on_missing_or_taken_names_are_refused(here: Sending) -> None:
    here.commands.add(Wanted("orders", "http://127.0.0.1/"))
    with pytest.raises(SubscriptionConflict):
        here.commands.add(Wanted("orders", "http://127.0.0.1/"))
    for act in (here.commands.pause, here.commands.resume, here.commands.rotate, here.commands.remove):
        with pytest.raises(SubscriptionMissing):
            act("nosuch")
    with pytest.raises(SubscriptionMissing):
        here.commands.replay("nosuch", None)
    with pytest.raises(SubscriptionRefused):
        here.commands.replay("orders", "yesterday")


def test_each_act_leaves_one_row_without_a_secret(here: Sending) -> None:
    with Subscriber() as subscriber:
        secret = here.add(subscriber)
        here.commands.pause("orders")
        here.commands.resume("orders")
        here.commands.replay("orders", None)
        new = here.commands.rotate("orders")
        here.commands.send_test("orders", load_alone({"DATABASE_URL": here.drainer.url}, ()))
        here.commands.remove("orders")
    acts = rows(here.drainer.url, "select * from headshotpro.audit_log order by id")
    assert [act["action"].removeprefix("subscription.") for act in acts] == [
        "add", "pause", "resume", "replay", "rotate", "test", "remove",
    ]  # fmt: skip
    assert {(act["actor"], act["target"], act["outcome"]) for act in acts} == {("tester", "orders", "done")}
    assert secret not in str(acts)
    assert new not in str(acts)


def test_test_request_is_signed_and_says_what_it_is(here: Sending) -> None:
    with Subscriber() as subscriber:
        secret = here.add(subscriber)
        outcome = here.commands.send_test("orders", load_alone({"DATABASE_URL": here.drainer.url}, ()))
        assert (outcome.status, outcome.taken) == (204, True)
        (request,) = subscriber.requests
        document = Webhook(secret).verify(request.body, dict(request.headers))
        assert document == json.loads(request.body)
        assert (document["type"], document["data"]) == ("subscription.test", {})
