"""Pulls that fail: whether that lasts, and whether the API key is the reason. Pure.

Why: `docs/decisions/0038-failing-pulls-from-pulls.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.storage.pulls import FailingPull

# Tries of a pull in a row that the upstream, or Postgres by a lock or a slow statement, ended; a single one may be a
# moment's trouble.
LASTING_FAILURES = 2

# How the error of a pull begins that Postgres ended, and what to do. Those of older versions stay for a while.
_POSTGRES_ACTIONS = {
    re.compile(r"none of \d+ models|Postgres refused each"): (
        "select model_id, reason from headshotpro.set_aside where resolved_at is null"
    ),
    re.compile(r"another transaction holds a lock|Postgres ended a statement"): (
        "pg_locks and pg_stat_activity show what holds headshotpro.models up: an open transaction, or a slow trigger"
    ),
}
_REFUSED_KEY = re.compile(r"the upstream refused: (401|403)\b")


def fails_for_long(pull: FailingPull) -> bool:
    """Whether a pull has failed, or several of its tries in a row were ended."""
    return pull.failures is None or pull.failures >= LASTING_FAILURES


def refused_status(pull: FailingPull) -> str | None:
    """The HTTP status with which the upstream refused the key of a pull; None where it failed for another reason."""
    refused = _REFUSED_KEY.match(pull.error)
    return refused[1] if refused else None


def postgres_action(pull: FailingPull) -> str | None:
    """What to do about a pull that Postgres ended; None where the upstream did."""
    return next((action for error, action in _POSTGRES_ACTIONS.items() if error.match(pull.error)), None)
