"""Retention: personal data of tombstones are erased; old events, history and acts are removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import structlog

from service.mirror.erasure import erase, unfinished_ids
from service.storage import audit, erasure, retention
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

# A transaction holds its locks for some milliseconds only.
ERASE_BATCH_SIZE = 100
PURGE_BATCH_SIZE = 1000


class RetentionLimits(NamedTuple):
    """For how many days each thing is kept.

    Attributes:
        events: webhook events.
        history: rows of `model_changes`; 0: for ever.
        personal: personal data of a tombstone.
    """

    events: int
    history: int
    personal: int


def apply_limits(engine: Engine, limits: RetentionLimits, seconds: float) -> bool:
    """Erase and remove what is due, a small transaction at a time.

    Args:
        engine: the mirror's Postgres.
        limits: how long each thing is kept.
        seconds: when it stops.

    Returns:
        Whether all is done.
    """
    deadline = monotonic() + seconds
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

    def purge_events(engine: Engine) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return retention.purge_events(connection, now - timedelta(days=limits.events), PURGE_BATCH_SIZE)

    def purge_history(engine: Engine) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return retention.purge_changes(connection, now - timedelta(days=limits.history), PURGE_BATCH_SIZE)

    def purge_set_aside(engine: Engine) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return retention.purge_set_aside(connection, now - timedelta(days=limits.events), PURGE_BATCH_SIZE)

    def purge_audit_log(engine: Engine) -> int:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            return audit.purge(connection, now - timedelta(days=audit.RETENTION_DAYS), PURGE_BATCH_SIZE)

    steps: dict[str, Callable[[Engine], int | None]] = {
        "tombstones_erased": erase_due,
        "events_purged": purge_events,
        "changes_purged": purge_history,
        "set_aside_purged": purge_set_aside,
        "acts_purged": purge_audit_log,
    }
    if limits.history == 0:
        del steps["changes_purged"]
    return steps


def _until_done(engine: Engine, name: str, step: Callable[[Engine], int | None], deadline: float) -> bool:
    """Repeat a step until nothing is left or the time is up: whether nothing is left."""
    done = 0
    while monotonic() < deadline:
        step_count = step(engine)
        if step_count is None:
            break
        done += step_count
        if not step_count:
            if done:
                log.info("retention.deleted", **{name: done})
            return True
    if done:
        log.info("retention.deleted", **{name: done})
    return False
