"""The refetch: questions that only a single GET answers, asked within the request budget.

A question is claimed by moving its due time, so that one which dies with its process comes due again. It goes when an
answer was sent after its time. A 404 about a live model settles nothing: the next full pull decides.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.errors import (
    KeyRejected,
    LockUnavailable,
    MirrorError,
    ModelNotFound,
    StatementTimeout,
    StorageUnavailable,
    Throttled,
    UpstreamError,
    UpstreamUnreachable,
)
from service.log import without_messages
from service.mirror import set_aside
from service.mirror.apply import Sighting, apply
from service.mirror.deletions import counts_as_gone
from service.mirror.merge import DELETED
from service.mirror.observe import from_single
from service.mirror.profiles import gather
from service.storage import models, refetches
from service.storage.database import transaction
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.storage.refetches import Wish
    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

AT_A_TIME = 10
# A claimed batch lives for a slice and one answer; that of a process that was killed comes due again after it.
HOLD_SECONDS = 15.0
UNREACHABLE_PAUSE_SECONDS = 5.0
# A lock on one model is waited for this long; then the others are asked about.
LOCK_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 900.0


def refetch(engine: Engine, client: UpstreamClient, seconds: float) -> int:
    """Ask due questions for about `seconds`.

    Returns:
        How many answers were merged.

    Raises:
        StorageUnavailable: Postgres is gone.
        InboxUnavailable: the Redis of the request budget is gone.
        Stopping: the process is asked to stop.
    """
    deadline = monotonic() + seconds
    read = _gather(engine, client, deadline)
    while monotonic() < deadline:
        with transaction(engine) as connection:
            due = refetches.claim(connection, AT_A_TIME, HOLD_SECONDS)
        if not due:
            return read
        claimed = deque(due)
        pause = 0.0
        try:
            while claimed and (left := deadline - monotonic()) > 0:
                read += _ask(engine, client, claimed[0], max(left, 1.0))
                claimed.popleft()
        except Throttled:
            return read
        except UpstreamError as error:
            _put_off(engine, claimed.popleft(), str(error))
            pause = UNREACHABLE_PAUSE_SECONDS if isinstance(error, KeyRejected | UpstreamUnreachable) else 0.0
        except (LockUnavailable, StatementTimeout) as error:
            _put_off(engine, claimed.popleft(), str(error))
        except MirrorError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one model makes of our code, the others are asked about
            log.error("refetch.crashed", model_id=claimed[0].model_id, trace=without_messages(error))
            _put_off(engine, claimed.popleft(), f"unexpected error: {type(error).__name__}")
        finally:
            _give_back(engine, claimed, pause)
        if pause:
            return read
    return read


def _give_back(engine: Engine, claimed: deque[Wish], pause: float) -> None:
    """Nobody has asked these: without Postgres they come due again by themselves, a little later."""
    if claimed:
        with suppress(StorageUnavailable), transaction(engine) as connection:
            refetches.give_back(connection, [wish.model_id for wish in claimed], pause)


def _gather(engine: Engine, client: UpstreamClient, deadline: float) -> int:
    """First the profiles that list pages tell; where the list cannot be read, single GETs try each."""
    try:
        return gather(engine, client, deadline)
    except UpstreamError as error:
        log.warning("gather.failed", error=str(error))
        return 0
    except MirrorError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a page makes of our code, single GETs ask about each model
        log.error("gather.crashed", trace=without_messages(error))
        return 0


def _ask(engine: Engine, client: UpstreamClient, wish: Wish, patience: float) -> bool:
    """Read one model and merge what it tells."""
    try:
        answer = client.get_model(wish.model_id, priority=Priority.REFETCH, patience=patience)
    except ModelNotFound as error:
        _missing(engine, wish, error)
        return False
    seen = from_single(wish.model_id, answer.body, answer.sent_at, answer.answered_at)
    with transaction(engine, lock_seconds=LOCK_SECONDS) as connection:
        apply(connection, [Sighting(seen, "refetch", pull_id=wish.pull_id)])
        set_aside.note_single(connection, wish.model_id, answer)
        refetches.settle(connection, [wish.model_id], answer.sent_at)
        # What was not settled is asked again soon: a GET sent a little too early, by two clocks that differ.
        refetches.postpone(connection, wish.model_id, min(2.0**wish.attempts, LONGEST_PAUSE_SECONDS))
    log.info("refetch", model_id=wish.model_id, reason=wish.reason)
    return True


def _missing(engine: Engine, wish: Wish, error: ModelNotFound) -> None:
    """A 404 confirms a tombstone; about a live model it is kept for the next full pull."""
    with transaction(engine) as connection:
        row = models.read(connection, [wish.model_id]).get(wish.model_id, {})
        if row.get("status") == DELETED:
            refetches.settle(connection, [wish.model_id], error.sent_at)
        counts = counts_as_gone(wish.model_id, row.get("created_at"), error.sent_at, error.answered_at)
        missing_at = error.sent_at if counts else None
        refetches.postpone(connection, wish.model_id, min(4.0 * 2**wish.attempts, LONGEST_PAUSE_SECONDS), missing_at)
    log.info("refetch.missing", model_id=wish.model_id, reason=wish.reason)


def _put_off(engine: Engine, wish: Wish, reason: str) -> None:
    """Ask again later, after longer each time; the message of the log holds no values."""
    with transaction(engine) as connection:
        refetches.postpone(connection, wish.model_id, min(5.0 * 2**wish.attempts, LONGEST_PAUSE_SECONDS))
    log.warning("refetch.failed", model_id=wish.model_id, error=reason)
