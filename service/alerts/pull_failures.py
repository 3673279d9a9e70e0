"""Pulls that fail: whether that lasts, and whether the API key is the reason. Pure.

Why: `docs/decisions/0038-failing-pulls-from-pulls.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.storage.pulls import FailingPull

# Tries of a pull in a row, each of several requests, that the upstream ended; a single one may be a moment's trouble.
LASTING_FAILURES = 2

_REFUSED_KEY = re.compile(r"the upstream refused: (401|403)\b")


def fails_for_long(pull: FailingPull) -> bool:
    """Whether a pull has failed, or the upstream ended several of its tries in a row."""
    return pull.failures is None or pull.failures >= LASTING_FAILURES


def refused_status(pull: FailingPull) -> str | None:
    """The HTTP status with which the upstream refused the key of a pull; None where it failed for another reason."""
    refused = _REFUSED_KEY.match(pull.error)
    return refused[1] if refused else None
