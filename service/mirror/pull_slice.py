"""One stretch of work on a pull: its lease, its checkpoint, and what ends it. `service.mirror.pull` has the phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from service.mirror.set_aside import name_of
from service.storage import pull_checkpoints, set_aside
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from service.mirror.pull_state import PullContext, PullState

log = structlog.get_logger(__name__)

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
