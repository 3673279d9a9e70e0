"""A process that sends to subscriptions and nothing else, with quick retries and leases: storms kill it.

`python -m tests.faults.subscription_sender DATABASE_URL HOLDER` sends until SIGTERM.
"""

from __future__ import annotations

import sys
import threading

import structlog

from service.config import load_alone
from service.signal_handlers import stop_on_signals
from service.storage import database
from service.subscriptions.policy import SenderTiming, SendingPolicy
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.sender import SubscriptionSender

POLICY = SendingPolicy(first_retry=0.05, longest_retry=1.0, longest_probe=0.3)
TIMING = SenderTiming(sync=0.3, request=2.0, lease=3.5, last=1.5)


def main(url: str, holder: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    stop = threading.Event()
    stop_on_signals(stop)
    client = ReceiverClient(load_alone({"DATABASE_URL": url}, ()), deadline=TIMING.request)
    SubscriptionSender(database.connect(url), client, holder, POLICY, TIMING).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
