"""The clock: checks the schedule each second and queues the jobs that are due. Any number may run; one acts.

Beside it, in threads of their own, every clock evaluates alerts (`workers.alerting`) and sends to subscriptions.

Why not RQ's own cron: `docs/decisions/0009-a-clock-process.md`.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.broker.counters import SUBSCRIPTION_LATENCY, SUBSCRIPTION_REQUESTS
from service.broker.lease import Lease
from service.errors import PostgresUnavailable, RedisUnavailable, Unavailable, WrongKeyType
from service.heartbeat import CLOCK, Heartbeat
from service.log import log_start
from service.redis_keys import wrong_keys
from service.runtime import Runtime
from service.signal_handlers import start_exit_watchdog, stop_on_signals
from service.storage.migrations import revision
from service.subscriptions.receiver import ReceiverClient
from service.subscriptions.sender import SubscriptionSender
from workers.alerting import Alerting
from workers.dead_mans_switch import DeadMansSwitch
from workers.schedule import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.config import Settings

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
LEASE_KEY = "headshotpro:clock"
# A tick takes this long at most while Postgres and Redis respond; a clock that hangs longer counts as dead.
TICK_TIMEOUT_SECONDS = 20.0
# Another clock acts this long after the acting one was cut off.
LEASE_SECONDS = 10.0
# The thread that sends waits four seconds for requests in flight, and then writes what it knows.
LAST_SECONDS = 6.0


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT.

    Raises:
        SchemaOutdated: the database is older than the code.
        SettingsError: ALERT_URLS holds something that Apprise does not understand.
    """
    runtime = Runtime.build(settings)
    alerting = Alerting(runtime)
    sending = sending_thread(runtime)
    log_start(CLOCK)
    stop_on_signals(runtime.stop)
    start_exit_watchdog(runtime.stop)
    clock = Clock(runtime)
    heartbeat = Heartbeat(settings.postgres_url, CLOCK, runtime.name, clock.alive)
    heartbeat.start()
    switch = DeadMansSwitch(settings, lambda: clock.acting)
    switch.start()
    try:
        while not runtime.stop.is_set():
            clock.tick()
            if clock.schema_checked:
                alerting.start()
                if sending.ident is None:
                    sending.start()
            runtime.stop.wait(TICK_SECONDS)
        heartbeat.stop()
        clock.release()
    finally:
        runtime.stop.set()
        switch.close()
        if sending.ident is not None:
            # A thread that hangs is left alone.
            sending.join(LAST_SECONDS)
        alerting.close()
        heartbeat.close()


class Clock:
    """One clock process.

    Attributes:
        schema_checked: the schema was seen to be new enough.
        acting: whether this clock is the one that acts.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lease = Lease(runtime.redis, LEASE_KEY, runtime.name, LEASE_SECONDS)
        self._next_check = [0.0] * len(SCHEDULE)
        self.schema_checked = False
        self.acting = False
        self._ticked_at: float | None = None

    def alive(self) -> bool:
        """Whether it ticks; for any thread."""
        return self._ticked_at is not None and monotonic() - self._ticked_at < TICK_TIMEOUT_SECONDS

    def tick(self) -> None:
        """Queue the jobs that are due, if this is the clock that acts; unavailable servers are waited for."""
        self._ticked_at = monotonic()
        try:
            if not self.schema_checked:
                revision.check(self._runtime.engine)
                self.schema_checked = True
        except PostgresUnavailable as error:
            # Drains are queued all the same.
            log.warning("clock.waits", error=str(error))
        try:
            acting = self._lease.acquire()
        except RedisUnavailable as error:
            log.warning("clock.waits", error=str(error))
            return
        if acting != self.acting:
            log.info("clock.acts" if acting else "clock.stands_by")
        self.acting = acting
        if acting:
            self._enqueue_due_jobs()

    def release(self) -> None:
        """Let another clock act at once."""
        try:
            self._lease.release()
        except Unavailable as error:
            log.warning("clock.lease_not_released", error=str(error))

    def _enqueue_due_jobs(self) -> None:
        """Check each line whose time has come; a check that fails does not delay the others."""
        for place, entry in enumerate(SCHEDULE):
            if monotonic() < self._next_check[place]:
                continue
            self._next_check[place] = monotonic() + entry.every
            try:
                if entry.due(self._runtime):
                    self._runtime.queue.enqueue(entry.job)
            except PostgresUnavailable as error:
                log.warning("clock.waits", job=entry.job.name, error=str(error))
            except WrongKeyType as error:
                keys = [f"{fault}: {advice}" for fault, advice in wrong_keys(self._runtime.redis).items()]
                log.error("clock.waits", job=entry.job.name, error=str(error), keys=keys)
            except Unavailable as error:
                log.warning("clock.waits", job=entry.job.name, error=str(error))
                return


def sending_thread(runtime: Runtime) -> threading.Thread:
    """A thread that sends outgoing webhooks until the process has to stop; it is not started yet.

    It needs Postgres alone, so it runs in every clock, also while Redis is unavailable: leases decide which one sends.

    Why: `docs/decisions/0039-outgoing-webhooks.md`.
    """

    def observe(outcome: str, latencies: Sequence[float]) -> None:
        runtime.counters.add(SUBSCRIPTION_REQUESTS, outcome)
        runtime.counters.observe(SUBSCRIPTION_LATENCY, latencies)

    client = ReceiverClient(runtime.settings)
    sender = SubscriptionSender(runtime.engine, client, runtime.name, observe=observe)
    return threading.Thread(target=sender.run, args=(runtime.stop,), name="subscriptions", daemon=True)
