"""One stretch of work on a pull: its lease, its checkpoint, and what ends it. `service.mirror.pull` has the phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import structlog

from service.errors import ListUnusable, MirrorError, Stopping, Throttled, UpstreamError, UpstreamRejected
from service.log import without_messages
from service.storage import pulls, set_aside
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from service.mirror.pull_state import Puller, State

log = structlog.get_logger(__name__)

FULL = "full"
HOT = "hot"

MOST_FAILURES = 5
FAILURE_PAUSE_SECONDS = 10.0


class Slice(ABC):
    """One stretch of work on a pull."""

    def __init__(self, puller: Puller, kind: str, pull_id: int, state: State, deadline: float) -> None:
        self.puller = puller
        self.kind = kind
        self.pull_id = pull_id
        self.state = state
        self.deadline = deadline
        self.requests = puller.counted()
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
            self._rest(0)
            raise
        except UpstreamError as error:
            self._ended_by(error)
        except MirrorError:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # A pull that does not end would be resumed again and again, and fail at the same place. Its values may be
            # personal data: they belong neither into the row nor into the log.
            log.error("pull.crashed", kind=self.kind, error=_kind_of(error), trace=without_messages(error))
            self._end("failed", f"unexpected error, please report it: {_kind_of(error)}")
        else:
            if not self.ended:
                self._rest(self.pause)

    def _ended_by(self, error: UpstreamError) -> None:
        """End the pull, or let it rest, after an error of the upstream."""
        if isinstance(error, Throttled):
            self._rest(max(0.0, (error.retry_at - datetime.now(UTC)).total_seconds()))
        elif isinstance(error, UpstreamRejected):
            self._end("failed", f"the upstream refused: {error.status} {error.code}")
        elif isinstance(error, ListUnusable):
            self._end("failed", str(error))
        else:
            self._stumble(error)

    def _keep(self, connection: Connection, **counted: int) -> None:
        sent = self.puller.counted()
        counted["requests"], self.requests = sent - self.requests, sent
        pulls.keep(connection, self.pull_id, self.puller.holder, msgspec.to_builtins(self.state), counted)

    def _rest(self, seconds: float) -> None:
        """Give the lease back; no process goes on before `seconds` are over."""
        with transaction(self.puller.engine) as connection:
            self._keep(connection)
            pulls.rest(connection, self.pull_id, self.puller.holder, seconds)

    def _stumble(self, error: UpstreamError) -> None:
        """The upstream gave nothing, again after its retries: try later, a few times."""
        self.state.failures += 1
        log.warning("pull.stumbled", failures=self.state.failures, error=str(error))
        if self.state.failures >= MOST_FAILURES:
            self._end("failed", str(error))
        else:
            self._rest(FAILURE_PAUSE_SECONDS * self.state.failures)

    def _end(self, status: str, error: str | None = None) -> None:
        with transaction(self.puller.engine) as connection:
            self._keep(connection)
            if status == "complete" and self.kind == FULL:
                set_aside.resolve(connection, self.pull_id, self._began_at)
            pulls.finish(
                connection,
                self.pull_id,
                self.puller.holder,
                status,
                began_at=self.state.began_at,
                error=error,
                postponed=self.state.postponed,
            )
        self.ended = True
        log.info("pull.ended", kind=self.kind, status=status, error=error)

    @property
    def _began_at(self) -> datetime:
        assert self.state.began_at is not None, "a page was read before this is asked"
        return self.state.began_at

    @property
    def _priority(self) -> Priority:
        return Priority.FULL if self.kind == FULL else Priority.HOT


def _kind_of(error: Exception) -> str:
    """The kind of an error, without its message: that may hold a person's data."""
    cause = getattr(error, "orig", None)
    return f"{type(error).__name__} ({type(cause).__name__})" if cause else type(error).__name__
