"""The outbox sender: delivers notifications, to each receiver in its own thread, so that none delays another."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.alerts.notification import Context, NotificationItem, compose, ids_to_show
from service.alerts.problems import this_up
from service.alerts.receivers import SendResult
from service.errors import MirrorError
from service.storage import notifications, organization
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from service.alerts.links import Links
    from service.alerts.notification import Message
    from service.alerts.receivers import Receiver

log = structlog.get_logger(__name__)

NOTHING_TO_SEND = SendResult(taken=True, reason="no notification was left")


class OutboxSender:
    """The outbox sender of one process; its methods raise `PostgresUnavailable` where Postgres is."""

    def __init__(self, engine: Engine, receivers: Sequence[Receiver], *, show_names: bool, links: Links) -> None:
        self._engine = engine
        self._receivers = {receiver.digest: receiver for receiver in receivers}
        self._show_names = show_names
        self._links = links
        self._sending: dict[str, threading.Thread] = {}

    def register_receivers(self) -> None:
        """Make its receivers the ones that get notifications."""
        with transaction(self._engine) as connection:
            notifications.set_receivers(connection, list(self._receivers))

    def tick(self) -> None:
        """Begin to send to each receiver that has notifications due and no running thread."""
        if not self._receivers:
            return
        with transaction(self._engine) as connection:
            due_receivers = notifications.due_receivers(connection, list(self._receivers))
        for digest in due_receivers:
            thread = self._sending.get(digest)
            if thread is None or not thread.is_alive():
                self._sending[digest] = threading.Thread(target=self._send, args=(digest,), daemon=True)
                self._sending[digest].start()

    def close(self, seconds: float) -> None:
        """Wait for running deliveries, for `seconds` in all; what is cut off is sent again after the next start."""
        deadline = monotonic() + seconds
        for thread in self._sending.values():
            thread.join(max(0.0, deadline - monotonic()))

    def _send(self, digest: str) -> None:
        """Send a receiver, in one message, every notification that it has not got yet."""
        try:
            taken = self._claim_message(digest)
            if taken is None:
                return
            message, ids = taken
            # Every notification may have become obsolete.
            result = self._receivers[digest].send(message) if message else NOTHING_TO_SEND
            self._record_result(digest, ids, result)
        except MirrorError as error:
            # The claim ends, and it is sent again.
            log.warning("notification.interrupted", receiver=digest, error=str(error))

    def _claim_message(self, digest: str) -> tuple[Message | None, list[int]] | None:
        """Claim a receiver: its message and the notifications in it; None where another process has claimed it."""
        with transaction(self._engine) as connection:
            if not notifications.claim(connection, digest):
                return None
            rows = notifications.unsent(connection, digest)
            ids = [row.pop("id") for row in rows]
            items = [NotificationItem(**row) for row in rows]
            titles = notifications.titles(connection, ids_to_show(items)) if self._show_names else {}
            mirrored = organization.read(connection)
        context = Context(titles, self._links, str(mirrored or ""), this_up())
        return compose(items, context), ids

    def _record_result(self, digest: str, ids: Sequence[int], result: SendResult) -> None:
        """Mark the notifications as sent, or postpone the receiver."""
        if result.taken:
            with transaction(self._engine) as connection:
                notifications.mark_sent(connection, digest, ids)
            log.info("notification.sent", receiver=digest, notifications=len(ids))
        else:
            with transaction(self._engine) as connection:
                failures = notifications.record_failure(connection, digest, result.reason)
            log.warning(
                "notification.failed", receiver=digest, notifications=len(ids), failures=failures, error=result.reason
            )
