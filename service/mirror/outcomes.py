"""Folding of outcomes: the counts by day and team catch up with the models that changed."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from service.storage import outcomes
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger(__name__)

# Some tenths of a second for each transaction; it locks nothing that a batch needs.
FOLD_BATCH_SIZE = 5_000


def fold_outcomes(engine: Engine, seconds: float) -> bool:
    """Fold for some seconds: whether nothing is left, or another process folds."""
    deadline, done = monotonic() + seconds, 0
    while monotonic() < deadline:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            folded = outcomes.fold(connection, FOLD_BATCH_SIZE)
        done += folded
        if not folded:
            break
    else:
        folded = 1
    if done:
        log.info("outcomes.folded", rows=done)
    return not folded
