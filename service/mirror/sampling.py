"""Accuracy checks by single GETs: random rows at random times, the same number for each stratum.

A pull reads rows in an order of its own, and never the details. A random row at a random time says how wrong any row is
at any time. The ordinary merge repairs each difference.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from service.errors import ModelNotFound, Throttled, UpstreamError
from service.mirror.accuracy import NEW_FOR, Stratum
from service.mirror.apply import merge_single
from service.model_fields import DELETED
from service.storage import accuracy, merged, models
from service.storage.database import WHOLE_TABLE_SECONDS, transaction
from service.storage.refetches import RefetchReason, RefetchRequest
from service.upstream.budget import Priority

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from service.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)

# The vendor's usual limit, while it has not named its own.
_REQUESTS_A_MINUTE = 300


def is_due(rate_budget: float, accuracy_budget: float, seconds: float) -> bool:
    """Draw whether a check is due, so that checks come at random times (a Poisson process) within their budget.

    `accuracy_budget` is a share of `rate_budget`; `seconds` have passed since the last draw.
    """
    return random.random() < _REQUESTS_A_MINUTE / 60 * rate_budget * accuracy_budget * seconds  # noqa: S311 - no secret


def check_one(engine: Engine, client: UpstreamClient, stratum: Stratum | None = None) -> bool:
    """Compare one random row with the upstream, of any stratum by default.

    Returns:
        Whether a row was compared; not where the stratum is empty, the budget is spent, or the GET failed.

    Raises:
        PostgresUnavailable: Postgres is unavailable.
        RedisUnavailable: the Redis of the request budget is unavailable.
        Stopping: the process has to stop.
    """
    stratum = stratum or random.choice(list(Stratum))  # noqa: S311 - no secret
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        place = random.random()  # noqa: S311 - no secret
        row = accuracy.drawn_row(connection, stratum, datetime.now(UTC) - NEW_FOR, place)
    if row is None:
        return False
    try:
        response = client.get_model(row["id"], priority=Priority.ACCURACY, max_wait=0.0)
    except ModelNotFound as error:
        _note_absence(engine, row, stratum, error)
        return True
    except Throttled:
        return False
    except UpstreamError as error:
        log.warning("accuracy_check.failed", model_id=row["id"], error=str(error))
        return False
    with transaction(engine) as connection:
        applied = merge_single(connection, row["id"], response, "refetch")
        now = datetime.now(UTC)
        found = applied.differences[0] if applied.differences else _agreement(now)
        accuracy.record(connection, [_check(row, stratum, found)])
    return True


def _agreement(now: datetime) -> dict[str, Any]:
    return {"checked_at": now, "agreed": True, "fields": [], "last_agreed_at": now, "decided_at": now}


def _check(row: dict[str, Any], stratum: Stratum, found: dict[str, Any]) -> dict[str, Any]:
    return {
        **found,
        "method": "sample",
        "model_id": row["id"],
        "stratum": stratum,
        "with_details": row["with_details"] and stratum is not Stratum.TOMBSTONE,
    }


def _note_absence(engine: Engine, row: dict[str, Any], stratum: Stratum, error: ModelNotFound) -> None:
    """A 404 confirms a tombstone. A live model that it denies is wrong until a full pull has decided."""
    now = datetime.now(UTC)
    found: dict[str, Any] = _agreement(now)
    with transaction(engine) as connection:
        # A webhook may have deleted it since it was drawn.
        mirrored = models.read(connection, [row["id"]]).get(row["id"])
        if mirrored is not None and mirrored["status"] != DELETED:
            as_of = {"last_agreed_at": row["core_at"], "core_at": row["core_at"]}
            found = {"checked_at": now, "agreed": False, "fields": ["status"], **as_of}
            request = RefetchRequest(row["id"], error.sent_at, RefetchReason.MISSING, error.received_at)
            merged.add_requests(connection, [request])
        accuracy.record(connection, [_check(row, stratum, found)])
