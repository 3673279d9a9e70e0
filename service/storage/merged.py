"""The rows that a merge locks and reads, and those that it writes: a function of the database for each.

A batch of one event waits for each trip to Postgres, and for the planning of each statement. A function takes one trip,
and a connection plans its statements once, also behind a pooler, where prepared statements are lost.

Why: `docs/decisions/0044-functions-for-merges.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.storage import arrays, events, history, models, refetches
from service.storage.migrations.merge_functions import Columns
from service.storage.tables import model_clocks
from service.storage.tables import models as models_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from service.storage.refetches import RefetchRequest

    Rows = Sequence[Mapping[str, Any]]

# The functions of these columns: `service.storage.migrations.merge_functions`.
FUNCTIONS = 1

_CLOCKS = ("model_id", *models.CLOCK_COLUMNS)
_MODEL = tuple(models_table.columns.keys())
# With their columns named, SQLAlchemy prepares for the results of a statement once, not each time.
_LOCK = text(
    f"SELECT {', '.join((*_CLOCKS, *_MODEL))}, processed "  # noqa: S608 - names of our own columns
    f"FROM headshotpro.lock_models_{FUNCTIONS}(CAST(:ids AS text[]), CAST(:event_ids AS text[]))"
).columns(
    *(model_clocks.columns[name] for name in _CLOCKS),
    *models_table.columns,
    models_table.columns["id"].label("processed"),
)

COLUMNS = Columns(models.CLOCK_TYPES, events.COLUMNS, refetches.REQUEST_TYPES, models.WRITTEN, history.TYPES)
_PARAMETERS = (
    *(name for kind, types in COLUMNS._asdict().items() for name in arrays.columns_by_type(types, (), kind)),
    "maybe_erased",
    "written_at",
)
_WRITE = text(f"SELECT headshotpro.write_merged_{FUNCTIONS}({', '.join(f'{name} => :{name}' for name in _PARAMETERS)})")


class LockedRows(NamedTuple):
    """The rows that a merge reads. Those of a large batch are taken apart with its parts, while Postgres writes.

    Attributes:
        rows: of each model its clocks and its row, by id.
        processed: those of the events that were processed before.
    """

    rows: dict[str, Sequence[Any]]
    processed: set[str]

    def clocks(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The clocks of some of the models, by id."""
        return {one: dict(zip(_CLOCKS, self.rows[one], strict=False)) for one in ids}

    def models(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The rows of those of the models that have one, by id; not each model that has clocks has a row."""
        found = ((one, self.rows[one][len(_CLOCKS) : -1]) for one in ids)
        return {one: dict(zip(_MODEL, row, strict=True)) for one, row in found if row[0] is not None}


def lock(connection: Connection, ids: Sequence[str], event_ids: Sequence[str] = ()) -> LockedRows:
    """Lock the clocks of models until the transaction ends, in id order; a model never seen gets empty ones. Then read.

    The lock comes before anything else is read of the models: it is what makes concurrent merges take turns.

    Args:
        connection: a transaction that holds no clock yet.
        ids: of the models, each once.
        event_ids: events that may have been processed before.
    """
    found = connection.execute(_LOCK, {"ids": arrays.encode(ids), "event_ids": arrays.encode(event_ids)}).all()
    processed = {row[-1] for row in found if row[0] is None}
    return LockedRows({row[0]: row for row in found if row[0] is not None}, processed)


class MergedRows(NamedTuple):
    """The rows that a merge writes.

    Attributes:
        clocks: rows of `model_clocks` that exist already.
        events: rows of `webhook_events`, each id once; one that is there already only counts the deliveries that are
            new. `payload` is a raw JSON document.
        requests: refetch requests, one for each model at most.
        models: rows of different models, each with `id`, every observed column and `observed_at`.
        changes: rows that `history.change_row` made, in their order.
        maybe_erased: those of the events' models that the transaction has not locked and found not to be erased. Of a
            model whose personal data was erased no payload is kept.
    """

    clocks: Rows = ()
    events: Rows = ()
    requests: Sequence[RefetchRequest] = ()
    models: Rows = ()
    changes: Rows = ()
    maybe_erased: Sequence[str] = ()


def write(connection: Connection, rows: MergedRows, now: datetime) -> int | None:
    """Write events, clocks, refetch requests, models, and last their changes in commit order, see `history.append`.

    Returns:
        The id of the last change; None where nothing changed.

    Args:
        connection: the transaction that holds the clocks' locks; it commits next.
        rows: what to write.
        now: our time of the write.
    """
    return write_parameters(connection, parameters(rows, now))


def parameters(rows: MergedRows, now: datetime) -> dict[str, Any]:
    """The parameters that `write_parameters` takes for some rows; empty where there is none."""
    if not any(rows):
        return {}
    given = {**rows._asdict(), "requests": [request._asdict() for request in rows.requests]}
    values: dict[str, Any] = {"maybe_erased": arrays.encode(rows.maybe_erased), "written_at": now}
    for kind, types in COLUMNS._asdict().items():
        values |= arrays.columns_by_type(types, given[kind], kind)
    return values


def write_parameters(connection: Connection, values: Mapping[str, Any]) -> int | None:
    """The second half of `write`, which waits for Postgres most of the time."""
    if not values:
        return None
    found: int | None = connection.execute(_WRITE, values).scalar()
    return found


def append(connection: Connection, changes: Rows, now: datetime) -> None:
    """Write changes in the order given, as the last statement of their transaction.

    From here to the commit no other writer gets ids; whatever takes long comes before.

    Args:
        connection: the transaction in which the models themselves are written.
        changes: rows that `history.change_row` made.
        now: our time of the write.
    """
    write(connection, MergedRows(changes=changes), now)


def add_requests(connection: Connection, requests: Sequence[RefetchRequest]) -> None:
    """Add refetch requests, one for each model at most; those of one model coalesce to the newest time."""
    write(connection, MergedRows(requests=requests), datetime.now(UTC))
