"""A reading replica that lags: the vendor's models as they were a moment ago."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.local.sandbox.model import VendorModel

# The longest lag that the switch allows; older notes are of no use to anyone.
LONGEST_MS = 60_000


class Replica:
    """Notes what each change replaced, for as long as a replica may lag."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, str, VendorModel | None]] = deque()

    def record_change(self, now: int, model_id: str, replaced: VendorModel | None) -> None:
        """Remember that a model changed at `now` (milliseconds); None says that it did not exist before."""
        while self._notes and self._notes[0][0] < now - LONGEST_MS:
            self._notes.popleft()
        self._notes.append((now, model_id, replaced))

    def as_of(self, moment: int) -> dict[str, VendorModel | None]:
        """The models that have changed since, by id, each as it was at that moment (milliseconds)."""
        past: dict[str, VendorModel | None] = {}
        for changed_at, model_id, replaced in reversed(self._notes):
            if changed_at <= moment:
                break
            past[model_id] = replaced
        return past
