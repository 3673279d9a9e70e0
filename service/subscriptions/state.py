"""A subscription in the process that sends to it: its row, its changes, and what of them is written."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.storage.subscription_feed import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.subscriptions.deliveries import Delivery
    from service.subscriptions.receiver import SendOutcome
    from service.subscriptions.window import Window

# As many requests of a subscription are kept for people.
RECENT_REQUESTS = 20


@dataclass(slots=True)
class SubscriptionState:
    """A subscription that this process sends to.

    Attributes:
        row: as it was last read.
        closing: nothing is sent any more; it is given up when no request is in flight.
        written: cursor, position and state that were last written.
        recent: its newest requests, the newest first, as the column `recent_requests` has them.
    """

    row: Mapping[str, Any]
    window: Window
    closing: bool = False
    written: tuple[Any, ...] = ()
    recent: deque[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        """Go on with the requests of the process before."""
        self.recent = deque(self.row["recent_requests"], RECENT_REQUESTS)

    @property
    def secrets(self) -> list[str]:
        """The secrets that sign its requests, the newest first."""
        return [secret for secret in (self.row["secret"], self.row["previous_secret"]) if secret]

    def record_request(self, delivery: Delivery, began: float, seconds: float, outcome: SendOutcome) -> None:
        """Keep a request for people, before its result is counted; `began` is in Unix seconds."""
        request = {
            "at": datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
            "change_id": delivery.first,
            "changes": len(delivery.changes),
            "attempt": delivery.attempts + 1,
            "status": outcome.status,
            "ms": round(seconds * 1000, 1),
            "error": outcome.error or None,
        }
        self.recent.appendleft(request)

    def progress(self, *, release: bool = False) -> Progress:
        """The progress to write."""
        window, row = self.window, self.row
        acknowledged, waiting = window.unwritten()
        changed = window.state != row["state"]
        return Progress(
            row["id"],
            row["version"],
            window.cursor,
            window.read_to,
            window.delivered,
            acknowledged,
            waiting,
            window.failure,
            window.state if changed else None,
            window.reason,
            release,
            list(self.recent),
        )

    @property
    def dirty(self) -> bool:
        """Whether there is something to write."""
        window = self.window
        facts = (window.cursor, window.read_to, window.state)
        return bool(window.unstored or window.delivered or window.failure) or facts != self.written

    def mark_written(self) -> None:
        """It is written."""
        self.window.written()
        self.written = (self.window.cursor, self.window.read_to, self.window.state)
