"""Erasing the personal data of tombstones: in their own rows, and wherever else something names the person.

Events about another model, or about none, can hold a name or an address too. They are found by a search, which takes
minutes where a million events are kept. So the search comes before the transaction that locks the models, takes a slice
of events at a time, and may stop between two slices and go on later. It begins anew where a process ends in between.

Why: `docs/decisions/0021-personal-data.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from service.errors import MirrorError
from service.model_fields import DELETED, personal_columns
from service.storage import audit, erasure, history, models
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.storage.audit import Actor

PERSONAL_COLUMNS = personal_columns()
# With bodies of 20 KB and a hundred persons to search for, a slice takes some seconds.
EVENT_BATCH_SIZE = 500


# The tombstones of a search that stopped because its time was up, and the last event that it has looked through.
_unfinished_searches: dict[frozenset[str], str] = {}


def erase(
    engine: Engine,
    ids: Sequence[str],
    deadline: float = inf,
    record: Callable[[Connection], object] = lambda _connection: None,
) -> int | None:
    """Erase the personal data of tombstones everywhere; those that are alive or were erased before are left alone.

    Args:
        engine: the mirror's Postgres.
        ids: some models.
        deadline: when to stop searching, on the monotonic clock; at least one slice of events is searched.
        record: writes the caller's own rows in the transaction that erases.

    Returns:
        How many were erased. None where the search stopped at the deadline: no model is erased yet, and the
        next call with the same models goes on.
    """
    if not ids:
        return 0
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        personal_values = erasure.personal_values(connection, ids)
    if not _erase_in_events(engine, personal_values, frozenset(ids), deadline):
        return None
    now = datetime.now(UTC)
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        # In the order of locks that all writers keep.
        models.lock_clocks(connection, ids)
        erasure.erase_idempotency_keys(connection, personal_values)
        erased = erasure.erase(connection, ids, now)
        record(connection)
        history.append(connection, [_change_row(row, now) for row in erased], now)
    return len(erased)


def erase_now(engine: Engine, model_id: str, actor: Actor) -> bool:
    """Erase the personal data of one tombstone.

    Returns:
        False where it was erased before.

    Raises:
        MirrorError: the model does not exist, or is alive.
    """
    require_deleted(engine, model_id)
    act = audit.Act(actor, "model.erase", model_id)
    return bool(erase(engine, [model_id], record=lambda connection: audit.record(connection, act)))


def require_deleted(engine: Engine, model_id: str) -> Mapping[str, Any]:
    """The row of a model that may be erased.

    Raises:
        MirrorError: the model does not exist, or is alive.
    """
    with transaction(engine) as connection:
        row = models.read(connection, [model_id]).get(model_id)
        if row is None:
            raise MirrorError(f"the mirror has never seen a model {model_id}")
        if row["status"] != DELETED:
            raise MirrorError(f"{model_id} is {row['status']}: only a deleted model can be erased; delete it first")
    return row


def unfinished_ids() -> list[str]:
    """The tombstones of a search that stopped at its deadline; none where none did."""
    return [model_id for tombstones in _unfinished_searches for model_id in sorted(tombstones)]


def _erase_in_events(
    engine: Engine, personal_values: Sequence[erasure.PersonalValue], tombstones: frozenset[str], deadline: float
) -> bool:
    """Remove the bodies of events that name one of the persons; False where the time was up before the end."""
    above = _unfinished_searches.get(tombstones, "") if personal_values else None
    _unfinished_searches.clear()
    while above is not None:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            above = erasure.erase_payloads(connection, personal_values, above, EVENT_BATCH_SIZE)
        if above is not None and monotonic() > deadline:
            _unfinished_searches[tombstones] = above
            return False
    return True


def _change_row(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The change that records an erasure: it names the columns, without their values."""
    erased = {name: (None, None) for name in PERSONAL_COLUMNS if row[name] is not None}
    return history.change_row(row["id"], {**erased, "erased_at": (None, now)}, "erase", now)
