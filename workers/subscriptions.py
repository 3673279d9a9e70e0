"""Outgoing webhooks in the clock process: a thread that sends to subscriptions, whatever the schedule does.

It needs Postgres alone, so it runs in every clock, also while Redis is unavailable: leases decide which one sends.

Why: `docs/decisions/0039-outgoing-webhooks.md`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from service.broker.counters import SUBSCRIPTION_LATENCY, SUBSCRIPTION_REQUESTS
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.sender import SubscriptionSender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.runtime import Runtime

# The thread waits four seconds for requests in flight, and then writes what it knows.
LAST_SECONDS = 6.0


def sending_thread(runtime: Runtime) -> threading.Thread:
    """A thread that sends until the process has to stop; it is not started yet."""

    def observe(outcome: str, latencies: Sequence[float]) -> None:
        runtime.counters.add(SUBSCRIPTION_REQUESTS, outcome)
        runtime.counters.observe(SUBSCRIPTION_LATENCY, latencies)

    client = ReceiverClient(runtime.settings)
    sender = SubscriptionSender(runtime.engine, client, runtime.name, observe=observe)
    return threading.Thread(target=sender.run, args=(runtime.stop,), name="subscriptions", daemon=True)
