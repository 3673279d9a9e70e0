"""The changes that one request to a subscription carries each time it is sent, and their rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class QueuedChange(NamedTuple):
    """A change that was read for the subscription."""

    change_id: int
    model_id: str

    def row(self) -> dict[str, Any]:
        """Its row of `subscription_deliveries` while no request has carried it."""
        return {"change_id": self.change_id, "model_id": self.model_id, "attempts": 0}


@dataclass(slots=True, eq=False)
class Delivery:
    """The changes that one request carries, each time it is sent.

    Attributes:
        changes: in the order of their ids.
        attempts: how many requests have failed.
        first_failed_at: when the first of them did, Unix seconds.
        due_at: not sent before, Unix seconds.
        status: HTTP status of the last failure.
    """

    changes: Sequence[QueuedChange]
    attempts: int = 0
    first_failed_at: float | None = None
    due_at: float = 0.0
    status: int | None = None
    error: str | None = None

    @property
    def first(self) -> int:
        """Its lowest change: no other delivery of the subscription has it."""
        return self.changes[0].change_id

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Delivery:
        """The delivery whose changes have these rows of `subscription_deliveries`, in the order of their ids."""
        first = rows[0]
        return cls(
            [QueuedChange(row["change_id"], row["model_id"]) for row in rows],
            first["attempts"],
            _unix(first["first_failed_at"]),
            _unix(first["due_at"]) or 0.0,
            first["status"],
            first["error"],
        )

    def row(self, change_id: int, *, batch: bool) -> dict[str, Any]:
        """The row of `subscription_deliveries` of one of its changes; `batch`: it carries them as a list."""
        (model_id,) = (change.model_id for change in self.changes if change.change_id == change_id)
        return {
            "change_id": change_id,
            "model_id": model_id,
            "batch": self.first if batch else None,
            "attempts": self.attempts,
            "first_failed_at": _moment(self.first_failed_at),
            "due_at": _moment(self.due_at),
            "status": self.status,
            "error": self.error,
        }


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
