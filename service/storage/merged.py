"""The rows that a merge reads after its locks, and those that it writes, each in one statement.

A batch of one event waits for each trip to Postgres, so it takes few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.storage import arrays, events, history, models, refetches
from service.storage.tables import models as models_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, TextClause

    from service.storage.refetches import RefetchRequest

    Rows = Sequence[Mapping[str, Any]]

_COLUMNS = tuple(models_table.columns.keys())
_OBSERVED_AT = _COLUMNS.index("observed_at")
# An event is a row without `observed_at`, which every model has.
_READ = text(
    f"""
    {models.READ}
    UNION ALL
    SELECT id{", NULL" * (len(_COLUMNS) - 1)} FROM headshotpro.webhook_events
    WHERE id = ANY({arrays.array("event_ids")})
    """  # noqa: S608 - names of our own columns
).columns(*models_table.columns)

# Parts of one statement run in any order, unless one reads what another returns. So the locks are taken in their order,
# and that on the order of commits is the last one, after all that takes long.
_RECORDED = "(SELECT count(*) FROM recorded) >= 0"
_DONE = "(SELECT count(*) FROM moved) + (SELECT count(*) FROM requested) + (SELECT count(*) FROM written) >= 0"


def _writing(recording: str = "", recorded: str = "true") -> TextClause:
    """The statement that writes a merge's rows, after a part that records its events, where it has some."""
    return text(
        f"""
        WITH {recording} moved AS ({models.WRITE_CLOCKS} RETURNING 1),
        requested AS ({refetches.adding(recorded)} RETURNING 1), written AS ({models.WRITE} RETURNING 1),
        {history.appending(f"{recorded} AND {_DONE}")}
        """
    )


_WRITE = _writing()
_WRITE_WITH_EVENTS = _writing(f"recorded AS ({events.RECORD} RETURNING 1),", _RECORDED)


class StoredRows(NamedTuple):
    """The rows that a merge reads.

    Attributes:
        models: the rows of those models that have one, by id.
        processed: those of the events that were processed before.
    """

    models: dict[str, Mapping[str, Any]]
    processed: set[str]


def read(connection: Connection, ids: Sequence[str], event_ids: Sequence[str]) -> StoredRows:
    """The rows of models, and which events were processed before."""
    if not event_ids:
        return StoredRows(models.read(connection, ids), set())
    rows: dict[str, Mapping[str, Any]] = {}
    processed: set[str] = set()
    for row in connection.execute(_READ, {"ids": arrays.encode(ids), "event_ids": arrays.encode(event_ids)}).all():
        if row[_OBSERVED_AT] is None:
            processed.add(row[0])
        else:
            rows[row[0]] = dict(zip(_COLUMNS, row, strict=True))
    return StoredRows(rows, processed)


class MergedRows(NamedTuple):
    """The rows that a merge writes.

    Attributes:
        clocks: rows of `model_clocks` that exist already.
        requests: refetch requests, one for each model at most.
        models: rows of different models, each with `id`, every observed column and `observed_at`.
        changes: rows that `history.change_row` made, in their order.
        events: rows of `webhook_events`, see `events.encode_events`.
        maybe_erased: models of these events, see there.
    """

    clocks: Rows = ()
    requests: Sequence[RefetchRequest] = ()
    models: Rows = ()
    changes: Rows = ()
    events: Rows = ()
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
    if not any(rows):
        return None
    values = {
        **models.encode_clocks(rows.clocks),
        **refetches.encode_requests(rows.requests),
        **models.encode_models(rows.models),
        **history.encode_changes(rows.changes),
        "now": now,
    }
    statement = _WRITE
    if rows.events:
        statement = _WRITE_WITH_EVENTS
        values |= events.encode_events(rows.events, rows.maybe_erased)
    found: int | None = connection.execute(statement, values).scalar()
    return found
