"""The parts that pulls of one process share, and the checkpoint that a pull keeps between two slices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the types of a checkpoint
from typing import TYPE_CHECKING

import msgspec

from service.mirror.error_scope import MAX_CONSECUTIVE_FAILURES
from service.mirror.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient

# Pages that are read during a merge are merged together, in halves of this: a transaction costs as much as some pages.
PREFETCH_PAGES = 24

# After this many failed GETs of one suspect, the next full pull decides about it.
MAX_FAILED_GETS = 3


class PullState(msgspec.Struct, kw_only=True):
    """A pull's checkpoint.

    Attributes:
        phase: `begin`, `walk`, `suspects`.
        walk: the state of the walk over the list.
        began_at: upstream time of the pull's very first page.
        statuses: of a hot pull: those still to be walked, the present one first.
        checked: id of the last suspect that was read.
        failed_gets: suspects that are not decided, and how many tries of each failed: its GET, or the lock of its row.
        failed_in_a_row: GETs of suspects that failed since the last response that decided one.
        failures: slices in a row that the upstream, or a lock or a slow statement of Postgres ended.
    """

    phase: str = "begin"
    walk: Walk = msgspec.field(default_factory=Walk)
    began_at: datetime | None = None
    statuses: tuple[str, ...] = ()
    checked: str = ""
    failed_gets: dict[str, int] = {}
    failed_in_a_row: int = 0
    failures: int = 0

    @property
    def to_check_again(self) -> list[str]:
        """Suspects whose GET, or the lock of whose row, failed, and that may be tried once more."""
        return [model_id for model_id, failed in self.failed_gets.items() if failed < MAX_FAILED_GETS]

    @property
    def postponed(self) -> list[str]:
        """Suspects that are left to the next full pull."""
        return [model_id for model_id, failed in self.failed_gets.items() if failed >= MAX_FAILED_GETS]

    def decided(self, model_id: str) -> None:
        """A GET decided a suspect."""
        self.checked = max(self.checked, model_id)
        self.failed_gets.pop(model_id, None)
        self.failed_in_a_row = self.failures = 0

    def postpone(self, model_id: str) -> None:
        """Leave a suspect to the next full pull at once."""
        self.failed_gets[model_id] = MAX_FAILED_GETS

    def failed(self, model_id: str) -> bool:
        """Count a failed GET of a suspect; True where the number in a row shows that the upstream is unavailable."""
        self.checked = max(self.checked, model_id)
        self.failed_gets[model_id] = self.failed_gets.get(model_id, 0) + 1
        self.failed_in_a_row += 1
        if self.failed_in_a_row < MAX_CONSECUTIVE_FAILURES:
            return False
        self.failed_in_a_row = 0
        return True


@dataclass(frozen=True, slots=True)
class PullContext:
    """Shared by the pulls of one process.

    Attributes:
        engine: the mirror's Postgres.
        client: the upstream.
        holder: this process's name in leases.
        tombstone_limit: share of the live mirror that may be suspect before a person decides.
        counted: requests sent so far by `client`, to be read before and after.
        progress: called while a pull reads: models read so far, and the list's total.
        pause: waits a number of seconds; raises `Stopping` where the process has to stop.
        ahead: pages that may be read and not merged yet; 1: each is merged before the next is read.
    """

    engine: Engine
    client: UpstreamClient
    holder: str
    tombstone_limit: float
    counted: Callable[[], int]
    progress: Callable[[int, int], None]
    pause: Callable[[float], None]
    ahead: int = PREFETCH_PAGES
