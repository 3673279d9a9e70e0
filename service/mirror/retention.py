"""Retention: personal data of tombstones are erased; old events, history, acts and accuracy checks are removed.

The same job folds outcomes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog

from service.mirror.erasure import erase, unfinished_ids
from service.storage import accuracy, audit, erasure, idempotency, notifications, outcomes, processes, retention
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

# A transaction holds its locks for some milliseconds only.
ERASE_BATCH_SIZE = 100
PURGE_BATCH_SIZE = 1000
# Some tenths of a second for each transaction; it locks nothing that a batch needs.
FOLD_BATCH_SIZE = 5_000


class RetentionLimits(NamedTuple):
    """For how many days each thing is kept. `history` of 0 is for ever; `personal` is about tombstones."""

    events: int
    history: int
    personal: int


def apply_limits(engine: Engine, limits: RetentionLimits, seconds: float) -> bool:
    """Erase and remove what is due, a small transaction at a time. It stops after some seconds.

    Returns:
        Whether all is done.
    """
    deadline = monotonic() + seconds
    with transaction(engine) as connection:
        for delete in (idempotency.delete_expired, processes.delete_unseen, notifications.delete_old):
            delete(connection)
    return all(_until_done(engine, name, step, deadline) for name, step in _steps(limits, deadline).items())


def _steps(limits: RetentionLimits, deadline: float) -> dict[str, Callable[[Engine], int | None]]:
    """The steps: each handles a few rows and returns how many, or None where its time was up."""
    now = datetime.now(UTC)

    def erase_due(engine: Engine) -> int | None:
        # Tombstones that come due meanwhile would make a search begin anew.
        ids = unfinished_ids()
        if not ids:
            with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
                ids = erasure.due(connection, now - timedelta(days=limits.personal), ERASE_BATCH_SIZE)
        return erase(engine, ids, deadline)

    def purge(engine: Engine, old: retention.OldRows, days: int) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return retention.purge(connection, old, now - timedelta(days=days), PURGE_BATCH_SIZE)

    purges = {
        "events_purged": (retention.EVENTS, limits.events),
        "changes_purged": (retention.CHANGES, limits.history),
        "set_aside_purged": (retention.SET_ASIDE, limits.events),
        "acts_purged": (retention.ACTS, audit.RETENTION_DAYS),
        "tasks_purged": (retention.TASKS, audit.RETENTION_DAYS),
        "accuracy_checks_purged": (retention.ACCURACY_CHECKS, accuracy.RETENTION_DAYS),
        "repeated_foreign_writes_purged": (retention.REPEATED_FOREIGN_WRITES, 0),
        # No pull compares a tombstone.
        "foreign_writes_purged": (retention.FOREIGN_WRITES, accuracy.RETENTION_DAYS),
    }
    if limits.history == 0:
        del purges["changes_purged"]
    steps = {name: partial(purge, old=old, days=days) for name, (old, days) in purges.items()}
    return {"tombstones_erased": erase_due, **steps}


def _until_done(engine: Engine, name: str, step: Callable[[Engine], int | None], deadline: float) -> bool:
    """Repeat a step until nothing is left or the time is up: whether nothing is left."""
    done = 0
    try:
        while monotonic() < deadline:
            count = step(engine)
            if not count:
                return count == 0
            done += count
        return False
    finally:
        if done:
            log.info("retention.done", **{name: done})


def fold_outcomes(engine: Engine, seconds: float) -> bool:
    """Let the counts of outcomes catch up for some seconds: whether nothing is left, or another process folds."""

    def fold(engine: Engine) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return outcomes.fold(connection, FOLD_BATCH_SIZE)

    return _until_done(engine, "outcomes_folded", fold, monotonic() + seconds)
