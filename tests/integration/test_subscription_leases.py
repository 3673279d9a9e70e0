"""Processes share subscriptions by leases: each is sent by one, and goes on where the last one ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg

from service.config import load_alone
from service.subscriptions.commands import SubscriptionBody
from service.subscriptions.leases import Leases
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.receiver import ReceiverClient, SendOutcome
from service.subscriptions.sender import SubscriptionSender
from tests.support.sending import Sending, arrives
from tests.support.subscriber import Subscriber
from tests.support.system import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


def test_next_process_goes_on_where_the_last_one_ended(sending: Sending) -> None:
    with Subscriber() as subscriber:
        sending.add(subscriber)
        with sending.sender("a"):
            sending.changes()
            arrives(sending, subscriber)
        sending.changes()
        with sending.sender("b"):
            arrives(sending, subscriber)
    assert len(subscriber.change_ids) == 30


def test_two_processes_share_no_subscription(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender("a"), sending.sender("b"):
        sending.add(subscriber)
        sending.changes(models=10, each=4)
        arrives(sending, subscriber)
        assert len(subscriber.change_ids) == 40


def test_lost_lease_stops_the_sender_and_its_writing(sending: Sending) -> None:
    with Subscriber() as subscriber, sending.sender():
        sending.add(subscriber)
        assert eventually(lambda: sending.row()["holder"] == "a")
        with psycopg.connect(sending.drainer.url, autocommit=True) as connection:
            connection.execute(
                "update headshotpro.subscriptions set holder = 'b', leased_until = now() + interval '1 hour'"
            )
        before = sending.row()["read_to"]
        sending.changes(models=1, each=1)
        assert eventually(lambda: not threading.Event().wait(1.0))
        assert (sending.row()["holder"], sending.row()["read_to"]) == ("b", before)
        assert len(subscriber.requests) <= 1


def test_request_does_not_begin_where_reads_outlast_the_lease(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    class Client(ReceiverClient):
        def send(self, url: str, message_id: str, body: bytes, signing_secrets: Sequence[str]) -> SendOutcome:
            sent.append(message_id)
            return SendOutcome(204)

    held = iter([True, False, *[True] * 1000])
    monkeypatch.setattr(Leases, "hold", property(lambda _leases: next(held)))
    sending.commands.add(SubscriptionBody("orders", "http://127.0.0.1:9/"))
    sending.changes(models=1, each=1)
    sender = SubscriptionSender(
        sending.drainer.engine, Client(load_alone({"DATABASE_URL": sending.drainer.url}, ())), "a"
    )
    sender.tick()
    assert sent == []
    assert eventually(lambda: sender.tick() or sent)


def test_lease_that_was_lost_and_regained_begins_anew(sending: Sending) -> None:
    """Another process may have sent and acknowledged meanwhile: what this one knows is out of date."""
    sending.commands.add(SubscriptionBody("orders", "http://127.0.0.1:9/"))
    first, second = (Leases(sending.drainer.engine, name, SendingPolicy(), SenderTiming()) for name in "ab")
    first.sync()
    (stale,) = first.open
    with psycopg.connect(sending.drainer.url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set leased_until = now()")
        second.sync()
        second.release()
        connection.execute("update headshotpro.subscriptions set read_to = 7, cursor = 8")
    first.sync()
    assert first.open == []
    first.sync()
    (fresh,) = first.open
    assert (fresh is not stale, fresh.window.read_to) == (True, 7)
