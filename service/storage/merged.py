"""The rows that a merge writes, in one statement: a batch of one event takes few trips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.storage import history, models, refetches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from service.storage.refetches import RefetchRequest

    Rows = Sequence[Mapping[str, Any]]

# Parts of one statement run in any order, unless one reads what another returns. So the lock on the order of commits
# is the last one, after all that takes long.
_DONE = "(SELECT count(*) FROM moved) + (SELECT count(*) FROM requested) + (SELECT count(*) FROM written) >= 0"
_WRITE = text(
    f"""
    WITH moved AS ({models.WRITE_CLOCKS} RETURNING 1), requested AS ({refetches.ADD} RETURNING 1),
    written AS ({models.WRITE} RETURNING 1), {history.appending(_DONE)}
    """
)


class MergedRows(NamedTuple):
    """The rows that a merge writes.

    Attributes:
        clocks: rows of `model_clocks` that exist already.
        requests: refetch requests, one for each model at most.
        models: rows of different models, each with `id`, every observed column and `observed_at`.
        changes: rows that `history.change_row` made, in their order.
    """

    clocks: Rows
    requests: Sequence[RefetchRequest]
    models: Rows
    changes: Rows


def write(connection: Connection, rows: MergedRows, now: datetime) -> int | None:
    """Write clocks, refetch requests, models, and last their changes in commit order, see `history.append`.

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
    found: int | None = connection.execute(_WRITE, values).scalar()
    return found
