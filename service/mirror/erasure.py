"""Erasing the personal data of tombstones: in their own rows, and wherever else something names the person.

What is about another model, or about none, can hold a name or an address too. It is found by searching, which takes
seconds where many events are kept, so it happens before the transaction that locks the models: a slice of events at a
time, and the search begins anew where a process ends in between.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.storage import changes, erasing, models
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

# Bodies of 20 KB and a hundred persons to look for take some seconds then.
EVENTS_AT_ONCE = 500


def erase(engine: Engine, ids: Sequence[str]) -> int:
    """Erase the personal data of tombstones everywhere; those that are alive or were erased before are left alone.

    Args:
        engine: the mirror's Postgres.
        ids: some models.

    Returns:
        How many were erased.
    """
    if not ids:
        return 0
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        names = erasing.names(connection, ids)
    _forget_in_events(engine, names)
    now = datetime.now(UTC)
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        # In the order of locks that all writers keep.
        models.lock_clocks(connection, ids)
        erasing.forget_idempotency_keys(connection, names)
        erased = erasing.erase(connection, ids, now)
        changes.append(connection, [_change(row, now) for row in erased], now)
    return len(erased)


def _forget_in_events(engine: Engine, names: Sequence[erasing.Name]) -> None:
    """Take the bodies of events away that name somebody, whatever model they are about."""
    above: str | None = "" if names else None
    while above is not None:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            above = erasing.forget_payloads(connection, names, above, EVENTS_AT_ONCE)


def _change(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The change that tells of it; what was erased is named, not told."""
    gone = {name: [None, None] for name in erasing.PERSONAL if row[name] is not None}
    return {
        "model_id": row["id"],
        "from_status": None,
        "to_status": None,
        "changed": {**gone, "erased_at": [None, now.isoformat()]},
        "source": "erase",
        "event_id": None,
        "pull_id": None,
        "observed_at": now,
    }
