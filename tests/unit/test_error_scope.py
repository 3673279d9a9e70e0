"""The scope of errors: whether the models beside the one that failed can still be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from service.errors import (
    KeyRejected,
    LeaseLost,
    LockUnavailable,
    ModelNotFound,
    PostgresUnavailable,
    RedisUnavailable,
    StatementTimeout,
    Stopping,
    Throttled,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from service.mirror.error_scope import ErrorScope, scope_of

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (KeyRejected(401, "UNAUTHORIZED", ""), ErrorScope.UPSTREAM),
        (KeyRejected(403, "FORBIDDEN", ""), ErrorScope.MODEL),
        (Throttled("", NOW), ErrorScope.UPSTREAM),
        (UpstreamUnreachable(""), ErrorScope.UNCLEAR),
        (UpstreamTimeout(""), ErrorScope.UNCLEAR),
        (UpstreamFailed(""), ErrorScope.MODEL),
        (UpstreamMalformed(""), ErrorScope.MODEL),
        (UpstreamRejected(400, "INVALID_REQUEST", ""), ErrorScope.MODEL),
        (ModelNotFound("NOT_FOUND", "", NOW, NOW), ErrorScope.MODEL),
        (LockUnavailable(""), ErrorScope.MODEL),
        (StatementTimeout(""), ErrorScope.MODEL),
        (KeyError(""), ErrorScope.MODEL),
        (PostgresUnavailable(""), ErrorScope.MIRROR),
        (RedisUnavailable(""), ErrorScope.MIRROR),
        (LeaseLost(""), ErrorScope.MIRROR),
        (Stopping(""), ErrorScope.MIRROR),
    ],
    ids=lambda value: value.value if isinstance(value, ErrorScope) else type(value).__name__,
)
def test_error_has_the_scope_of_the_models_it_concerns(error: Exception, scope: ErrorScope) -> None:
    assert scope_of(error) is scope
