"""Whether an error while a model was read concerns that model alone, or every other model too. Pure."""

from __future__ import annotations

from enum import Enum

from service.errors import (
    KeyRejected,
    LockUnavailable,
    MirrorError,
    StatementTimeout,
    Throttled,
    UpstreamError,
    UpstreamUnreachable,
)

# One model's GET may fail by itself. Where those of this many models in a row fail, the upstream is unavailable.
MAX_CONSECUTIVE_FAILURES = 5
KEY_REFUSED = 401


class ErrorScope(Enum):
    """The models that an error concerns."""

    # This model alone: its response, a lock on its row, or what our code makes of it. The others can be read.
    MODEL = "model"
    # No response: of this model, or of every model.
    UNCLEAR = "unclear"
    # Every model: the upstream refuses the key, or no request may be sent now.
    UPSTREAM = "upstream"
    # No model: Postgres or Redis is unavailable, or the process has to stop.
    MIRROR = "mirror"


def scope_of(error: Exception) -> ErrorScope:
    """The scope of an error that reading or merging one model raised."""
    # A key that may read the list may read its models: a 403 is about this one. Only a 401 is about the key.
    if isinstance(error, Throttled) or (isinstance(error, KeyRejected) and error.status == KEY_REFUSED):
        return ErrorScope.UPSTREAM
    if isinstance(error, UpstreamUnreachable):
        return ErrorScope.UNCLEAR
    if isinstance(error, UpstreamError | LockUnavailable | StatementTimeout) or not isinstance(error, MirrorError):
        return ErrorScope.MODEL
    return ErrorScope.MIRROR
