"""One stretch of work on a pull: its lease, its checkpoint, and what ends it. `service.mirror.pull` has the phases.

First what pulls of one process share, and the checkpoint that a pull keeps between two slices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import structlog

from service.errors import (
    ListUnusable,
    LockUnavailable,
    MirrorError,
    StatementTimeout,
    Stopping,
    Throttled,
    UpstreamError,
    UpstreamRejected,
)
from service.log import format_without_messages
from service.mirror.error_scope import MAX_CONSECUTIVE_FAILURES
from service.mirror.set_aside import name_of
from service.mirror.walk import Walk
from service.storage import pull_checkpoints, set_aside
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection, Engine

    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

# Pages that are read during a merge are merged together, in halves of this: a transaction costs as much as some pages.
PREFETCH_PAGES = 48

# After this many failed GETs of one suspect, the next full pull decides about it.
MAX_FAILED_GETS = 3


class PullState(msgspec.Struct, kw_only=True):
    """A pull's checkpoint.

    Attributes:
        phase: `begin`, `walk`, `suspects`.
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


FULL = "full"
# The act of a person who begins one, in the audit log.
START_ACTION = "pull.start"
HOT = "hot"

MAX_FAILURES = 5
FAILURE_PAUSE_SECONDS = 10.0


class PullSlice(ABC):
    """One stretch of work on a pull."""

    def __init__(self, pull_context: PullContext, kind: str, pull_id: int, state: PullState, deadline: float) -> None:
        self.pull_context = pull_context
        self.kind = kind
        self.pull_id = pull_id
        self.state = state
        self.deadline = deadline
        self.requests = pull_context.counted()
        self.ended = False
        self.pause = 0.0

    @property
    @abstractmethod
    def steps(self) -> Mapping[str, Callable[[], None]]:
        """The step of each phase; it is repeated until the phase changes."""

    @property
    def left(self) -> float:
        return max(0.0, self.deadline - monotonic())

    def run(self) -> None:
        """Step until the time is up, the pull has ended, or the upstream gives nothing."""
        try:
            while not self.ended and not self.pause and self.left:
                self.steps[self.state.phase]()
        except Stopping:
            # Another process may go on at once.
            self._release_lease(0)
            raise
        except UpstreamError as error:
            self._handle_upstream_error(error)
        except (StatementTimeout, LockUnavailable) as error:
            # Postgres works: its other statements, or a person's, hold this one up.
            self._retry_later(error)
        except MirrorError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # A pull that does not end would be resumed again and again, and fail at the same place. Its values may be
            # personal data: they belong neither into the row nor into the log.
            log.error("pull.crashed", kind=self.kind, trace=format_without_messages(error))
            self._finish("failed", f"unexpected error, please report it: {name_of(error)}")
        else:
            if not self.ended:
                self._release_lease(self.pause)

    def _handle_upstream_error(self, error: UpstreamError) -> None:
        """End the pull, or let it rest, after an error of the upstream."""
        if isinstance(error, Throttled):
            self._release_lease(max(0.0, (error.retry_at - datetime.now(UTC)).total_seconds()))
        elif isinstance(error, UpstreamRejected):
            self._finish("failed", f"the upstream refused: {error.status} {error.code}")
        elif isinstance(error, ListUnusable):
            self._finish("failed", str(error))
        else:
            self._retry_later(error)

    def _save_checkpoint(self, connection: Connection, **counted: int) -> None:
        sent = self.pull_context.counted()
        counted["requests"], self.requests = sent - self.requests, sent
        pull_checkpoints.save_checkpoint(
            connection, self.pull_id, self.pull_context.holder, msgspec.to_builtins(self.state), counted
        )

    def _release_lease(self, seconds: float) -> None:
        """Give the lease back; no process goes on before `seconds` are over."""
        with transaction(self.pull_context.engine) as connection:
            self._save_checkpoint(connection)
            pull_checkpoints.suspend(connection, self.pull_id, seconds)

    def _retry_later(self, error: MirrorError) -> None:
        """The upstream gave nothing, again after its retries, or Postgres was too slow: try later, a few times."""
        self.state.failures += 1
        log.warning("pull.retry_later", failures=self.state.failures, error=str(error))
        if self.state.failures >= MAX_FAILURES:
            self._finish("failed", str(error))
        else:
            with transaction(self.pull_context.engine) as connection:
                pull_checkpoints.record_error(connection, self.pull_id, str(error))
            self._release_lease(FAILURE_PAUSE_SECONDS * self.state.failures)

    def _finish(self, status: str, error: str | None = None) -> None:
        with transaction(self.pull_context.engine) as connection:
            self._save_checkpoint(connection)
            if status == "complete" and self.kind == FULL:
                set_aside.resolve(connection, self.pull_id, self._began_at)
            pull_checkpoints.finish(
                connection,
                self.pull_id,
                status,
                began_at=self.state.began_at,
                error=error,
                postponed=self.state.postponed,
            )
        self.ended = True
        log.info("pull.ended", kind=self.kind, status=status, error=error)

    @property
    def _began_at(self) -> datetime:
        assert self.state.began_at is not None, "only called after a page was read"
        return self.state.began_at

    @property
    def _priority(self) -> Priority:
        return Priority.FULL if self.kind == FULL else Priority.HOT
