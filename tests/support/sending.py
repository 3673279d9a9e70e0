"""Senders of changes over a test's database, and what a subscriber has to get from them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.config import load_alone
from service.storage import database
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.sender import SubscriptionSender
from tests.support.acting import TESTER
from tests.support.drainer import minutes
from tests.support.subscriber import Subscriber, admitted
from tests.support.system import event_body, eventually, new_id, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.drainer import Drainer

QUICK = SendingPolicy(first_retry=0.05, longest_retry=0.2, longest_probe=0.2)
TIMING = SenderTiming(sync=0.2)


class Sending:
    """Senders over one database, each as a process of its own has it."""

    def __init__(self, drainer: Drainer) -> None:
        self.drainer = drainer
        self.commands = SubscriptionCommands(drainer.engine, TESTER)

    @contextmanager
    def sender(self, holder: str = "a", policy: SendingPolicy = QUICK, **settings: str) -> Iterator[None]:
        """A sender that runs until the block ends."""
        loaded = load_alone({"DATABASE_URL": self.drainer.url, **settings}, ())
        client = ReceiverClient(loaded, deadline=1.0)
        engine = database.connect(self.drainer.url)
        stop = threading.Event()
        sender = SubscriptionSender(engine, client, holder, policy, TIMING)
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
        secret = self.commands.add(SubscriptionBody(name, subscriber.url, **wanted))
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


def arrives(here: Sending, subscriber: Subscriber, statuses: list[str] | None = None) -> None:
    """Every change that the filter admits arrives, in order for each model, and no other."""
    expected = admitted(here.drainer.url, statuses)
    assert eventually(lambda: subscriber.by_model() == expected), (subscriber.by_model(), expected)
