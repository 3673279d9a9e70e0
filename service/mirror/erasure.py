"""Erasing the personal data of tombstones: in their own rows, and wherever else something names the person.

Events about another model, or about none, can hold a name or an address too. They are found by a search, which takes
minutes where a million events are kept. So the search comes before the transaction that locks the models, takes a slice
of events at a time, and may stop between two slices and go on later: a task (`service.mirror.tasks`) where its row
says, retention where its process remembers.

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
from service.storage.merged import append, lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.storage.audit import Actor

ACTION = "model.erase"
PERSONAL_COLUMNS = personal_columns()
# With bodies of 20 KB and a hundred persons to search for, a slice takes some seconds.
EVENT_BATCH_SIZE = 500


# The tombstones of a search that stopped because its time was up, and the last event that it has looked through.
_unfinished_searches: dict[frozenset[str], str] = {}


def erase(
    engine: Engine,
    ids: Sequence[str],
    deadline: float = inf,
    record: Callable[[Connection, int], object] = lambda _connection, _erased: None,
) -> int | None:
    """Erase the personal data of tombstones everywhere; those that are alive or were erased before are left alone.

    It stops searching at `deadline`, on the monotonic clock, after one slice of events at least. `record`: see
    `erase_rows`.

    Returns:
        How many were erased. None where the search stopped at the deadline: no model is erased yet, and the
        next call with the same models goes on.
    """
    if not ids:
        return 0
    tombstones = frozenset(ids)
    above: str | None = _unfinished_searches.get(tombstones, "")
    _unfinished_searches.clear()
    while above is not None:
        above = search_slice(engine, ids, above)
        if above is not None and monotonic() > deadline:
            _unfinished_searches[tombstones] = above
            return None
    return erase_rows(engine, ids, record)


def search_slice(engine: Engine, ids: Sequence[str], above: str) -> str | None:
    """Remove the bodies of events that name the person of a tombstone, among the next of the events.

    Returns:
        The last event of this slice, after which the next one begins; None where none is left to search.
    """
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        values = erasure.personal_values(connection, ids)
        return erasure.erase_payloads(connection, values, above, EVENT_BATCH_SIZE) if values else None


def erase_rows(engine: Engine, ids: Sequence[str], record: Callable[[Connection, int], object]) -> int:
    """Erase tombstones in all other tables, once the events are searched: how many were not erased before.

    `record` writes the caller's own rows in the transaction that erases; it takes the number, too.
    """
    now = datetime.now(UTC)
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        values = erasure.personal_values(connection, ids)
        # In the order of locks that all writers keep.
        lock(connection, ids)
        erasure.erase_idempotency_keys(connection, values)
        erased = erasure.erase(connection, ids, now)
        record(connection, len(erased))
        append(connection, [_change_row(row, now) for row in erased], now)
    return len(erased)


def erase_now(engine: Engine, model_id: str, actor: Actor) -> bool:
    """Erase the personal data of one tombstone. Its row in the audit log is written before: a process may die midway.

    Returns:
        False where it was erased before; then no row is written.

    Raises:
        MirrorError: the model does not exist, or is alive.
    """
    with transaction(engine) as connection:
        if require_deleted(connection, model_id)["erased_at"] is not None:
            return False
    with audit.recorded(engine, audit.Act(actor, ACTION, model_id)) as act:

        def record(connection: Connection, erased: int) -> None:
            act.detail |= detail_of(connection, model_id, erased)
            audit.complete(connection, act, audit.DONE)

        return bool(erase(engine, [model_id], record=record))


def detail_of(connection: Connection, model_id: str, erased: int) -> dict[str, Any]:
    """The detail of an act that erased one model, or found it erased by another act meanwhile.

    Raises:
        MirrorError: it erased none, because the model lives again.
    """
    if erased:
        return {}
    require_deleted(connection, model_id)
    return {"nothing_left": True}


def require_deleted(connection: Connection, model_id: str) -> Mapping[str, Any]:
    """The row of a model that may be erased.

    Raises:
        MirrorError: the model does not exist, or is alive.
    """
    row = models.read(connection, [model_id]).get(model_id)
    if row is None:
        raise MirrorError(f"the mirror has never seen a model {model_id}")
    if row["status"] != DELETED:
        raise MirrorError(f"{model_id} is {row['status']}: only a deleted model can be erased; delete it first")
    return row


def unfinished_ids() -> list[str]:
    """The tombstones of a search that stopped at its deadline; none where none did."""
    return [model_id for tombstones in _unfinished_searches for model_id in sorted(tombstones)]


def _change_row(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The change that records an erasure: it names the columns, without their values."""
    erased = {name: (None, None) for name in PERSONAL_COLUMNS if row[name] is not None}
    return history.change_row(row["id"], {**erased, "erased_at": (None, now)}, "erase", now)
