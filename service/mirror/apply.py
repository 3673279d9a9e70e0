"""Apply a batch: merge observations into the stored rows, in one transaction, with a handful of statements.

Every writer takes its locks in one order (clocks by id, events by id, refetch requests by id, the order of commits), so
that batches, pages and refetches of the same models wait for each other and never deadlock. A large batch writes its
new events part by part. Two batches that hold the same ones wait for each other's clocks before, but for events about
no model that has a row: if Postgres ends one of the batches, it is applied event by event.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import StatementTimeout
from service.mirror import set_aside
from service.mirror.merging_batch import COMPARING_SOURCES, BatchResult, MergingBatch, coalesce
from service.mirror.observe import from_single
from service.storage import accuracy, events, models, refetches
from service.storage.merged import MergedRows, lock, parameters, write, write_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from service.mirror.merge import Observation
    from service.storage.refetches import RefetchRequest
    from service.upstream.payloads import DetailedModel
    from service.upstream.responses import UpstreamResponse


# Others wait for the clocks of a batch: its parts may take as long as one statement of it.
PARTS_SECONDS = 20.0


class Part(NamedTuple):
    """Observations of models of which no other part has any.

    Attributes:
        observations: any number, in any order.
        record: writes the caller's own rows, or returns rows to be written with those of the merge. Where there is more
            than one part it may not use the connection: another part is being written.
    """

    observations: Sequence[Observation]
    record: Callable[[BatchResult], MergedRows | None] | None = None


def apply(
    connection: Connection,
    observations: Sequence[Observation],
    source: str,
    *,
    pull_id: int | None = None,
    now: datetime | None = None,
    record: Callable[[BatchResult], MergedRows | None] | None = None,
) -> BatchResult:
    """Merge a batch of observations into the stored rows: `apply_parts` with one part."""
    (applied,) = apply_parts(connection, [Part(observations, record)], source, pull_id=pull_id, now=now)
    return applied


def merge_single(
    connection: Connection,
    model_id: str,
    response: UpstreamResponse[DetailedModel],
    source: str,
    *,
    pull_id: int | None = None,
    settles_before: datetime | None = None,
) -> BatchResult:
    """Merge the response to a single GET: the row, what of it could not be used, and the refetch requests it settles.

    The steps take their locks in the order of every writer, so none may move.

    `pull_id` is the pull that sent the GET, or requested it. The response settles the refetch requests of before
    `settles_before`, upstream time: by default, of before the GET was sent.
    """
    seen = from_single(model_id, response.body, response.sent_at, response.received_at)
    applied = apply(connection, [seen], source, pull_id=pull_id)
    set_aside.note_single(connection, model_id, response, pull_id)
    refetches.complete(connection, [model_id], settles_before or response.sent_at)
    return applied


def apply_parts(
    connection: Connection,
    parts: Sequence[Part],
    source: str,
    *,
    pull_id: int | None = None,
    now: datetime | None = None,
    event_ids: Sequence[str] = (),
    unread: Collection[str] = (),
) -> list[BatchResult]:
    """Merge observations into the stored rows, and return the result of each part.

    Steps: lock the clocks in id order; read the rows; of each part, merge in order of upstream time, let the caller add
    its own rows, and write what moved or changed, and requests; last, append the changes in commit order.

    Args:
        connection: a transaction; the caller commits, soon.
        parts: one at least, in order of their models' ids; while Postgres writes one, the next is merged. Only webhooks
            may come in more than one: differences are recorded of one part alone.
        source: `webhook`, `pull`, `refetch` or `api`.
        pull_id: the pull that found them.
        now: our time of the write; the clock's by default.
        event_ids: observations of those that were processed before are left out.
        unread: models of dead events: they are locked, so that an erasure sees the event or the event the erasure.
    """
    now = now or datetime.now(UTC)
    ids = sorted({model_id for part in parts for model_id in _ids(part.observations)})
    # A model that has no row cannot be erased, and gets no clocks for a dead event.
    others = models.existing(connection, sorted(unread)) if unread else ()
    locked = lock(connection, sorted({*ids, *others}), event_ids)
    repeated = locked.processed
    # Only a comparison settles them: a webhook that came meanwhile says nothing of the row.
    foreign = models.take_foreign_writes(connection, ids) if source in COMPARING_SOURCES else ()
    # One of them may have been written or deleted since the rows were read.
    read_again = models.read(connection, [*foreign]) if foreign else {}

    def merge_part(part: Part) -> tuple[BatchResult, MergedRows]:
        observations = part.observations
        if repeated:
            observations = [seen for seen in observations if seen.event_id not in repeated]
        part_ids = _ids(observations)
        rows = locked.models(one for one in part_ids if one not in foreign) | read_again
        batch = MergingBatch(
            rows, locked.clocks(part_ids), len(observations), source, now, pull_id=pull_id, foreign_writes=foreign
        )
        batch.applied.repeated = repeated
        batch.take_all(observations)
        own = (part.record(batch.applied) if part.record else None) or MergedRows()
        return batch.applied, batch.rows_to_write(own)

    if len(parts) > 1:
        if repeated:
            events.lock(connection, repeated)
        return _write_beside_merge(connection, map(merge_part, parts), now)
    applied, merged = merge_part(parts[0])
    accuracy.record(connection, [one for one in applied.differences if one["pull_id"] is not None])
    applied.last_change_id = write(connection, merged, now)
    return [applied]


def _write_beside_merge(
    connection: Connection, merged_parts: Iterable[tuple[BatchResult, MergedRows]], now: datetime
) -> list[BatchResult]:
    """Write each part in a thread, which waits for Postgres, while this one merges the next; then all changes."""
    results: list[BatchResult] = []
    changes: list[Mapping[str, Any]] = []
    deadline = monotonic() + PARTS_SECONDS
    # At its end it waits for what is being written, also after an error: only then may the transaction roll back.
    with ThreadPoolExecutor(1, "writing-part") as waiting:
        written = None
        for applied, merged in merged_parts:
            values = parameters(merged._replace(changes=()), now)
            if written:
                written.result()
            if monotonic() > deadline:
                raise StatementTimeout(f"Postgres took longer than {PARTS_SECONDS:.0f} s to write a batch")
            written = waiting.submit(write_parameters, connection, values)
            results.append(applied)
            changes += merged.changes
        values = parameters(MergedRows(changes=changes), now)
    if written:
        written.result()
    last_change_id = write_parameters(connection, values)
    for applied in results:
        applied.last_change_id = last_change_id
    return results


def foresee(
    connection: Connection, observations: Sequence[Observation], source: str, requests: Sequence[RefetchRequest] = ()
) -> BatchResult:
    """The result that `apply` would have now, without a lock and without a write; it takes the same arguments."""
    now = datetime.now(UTC)
    ids = _ids(observations)
    batch = MergingBatch(
        models.read(connection, ids), models.read_clocks(connection, ids), len(observations), source, now
    )
    batch.take_all(observations)
    batch.applied.requests = coalesce([*batch.refetch_requests(), *requests])
    return batch.applied


def _ids(observations: Sequence[Observation]) -> list[str]:
    return sorted({seen.model_id for seen in observations})
