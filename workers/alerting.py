"""Alerts in the clock process: a thread that evaluates and sends, whatever the schedule does.

Not a job: an alert about an unavailable Redis, dead workers, or workers that hang on an upstream without a response,
must not wait for Redis or a worker.

Why: `docs/decisions/0019-alerts-in-the-clock.md`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from service.alerts import receivers
from service.alerts.evaluator import AlertEvaluator
from service.alerts.links import Links
from service.alerts.liveness import read_inbox_liveness
from service.alerts.outbox_sender import OutboxSender
from service.errors import PostgresUnavailable, SchemaOutdated

if TYPE_CHECKING:
    from service.runtime import Runtime

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
# Deliveries that run when the process has to stop get this long to end; the process has ten seconds in all.
LAST_SECONDS = 5.0


class Alerting:
    """The thread of one process."""

    def __init__(self, runtime: Runtime) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            SettingsError: ALERT_URLS holds something that Apprise does not understand.
        """
        settings = runtime.settings
        self._stop = runtime.stop
        self._evaluator = AlertEvaluator(runtime.engine, settings, lambda: read_inbox_liveness(runtime.redis))
        self._outbox_sender = OutboxSender(
            runtime.engine,
            receivers.from_settings(settings),
            show_names=settings.alert_show_names,
            links=Links.from_settings(settings),
        )
        self._registered = False
        self._thread = threading.Thread(target=self._run, name="alerting", daemon=True)

    def start(self) -> None:
        """Evaluate and send until the process has to stop; a second start changes nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Wait for the end of the thread, and for what is being sent; a thread that hangs is left alone."""
        if self._thread.ident is not None:
            self._thread.join(LAST_SECONDS)
        self._outbox_sender.close(LAST_SECONDS)

    def tick(self) -> None:
        """One evaluation and one round of sending; an unavailable Postgres is waited for."""
        try:
            if not self._registered:
                self._outbox_sender.register_receivers()
                self._registered = True
            self._evaluator.tick()
            self._outbox_sender.tick()
        except (PostgresUnavailable, SchemaOutdated) as error:
            log.warning("alerting.waits", error=str(error))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - without this thread no alert would be sent
                # By its kind alone: the message of a failed statement may hold people's data.
                log.error("alerting.failed", error=type(error).__name__)
            self._stop.wait(TICK_SECONDS)
