"""Apply a batch: merge observations into the stored rows, in one transaction, with a handful of statements.

Every writer takes its locks in one order (clocks by id, events by id, refetch requests by id, the order of commits), so
that batches, pages and refetches of the same models wait for each other and never deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from service.mirror.census import difference_row, known_as_of
from service.mirror.codec import decode, encode
from service.mirror.merge import KnownState, merge, visible
from service.model_fields import DELETED, personal_columns
from service.storage import accuracy, history, models
from service.storage.merged import MergedRows, lock, write
from service.storage.refetches import RefetchReason, RefetchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from service.mirror.merge import Observation

PERSONAL_COLUMNS = personal_columns()
# A pull or a GET shows state that the row should have already. A webhook or a call of our own brings a change.
COMPARING_SOURCES = ("pull", "refetch")
# Requests for a profile wait this long, so that those of a burst are read together.
PROFILE_REFETCH_DELAY = timedelta(seconds=1)


@dataclass(slots=True)
class BatchResult:
    """The result of a batch.

    Attributes:
        contributed: for each observation, in their order, whether it won or confirmed anything; False: it was stale.
        inserted: models seen for the first time.
        changed: models whose row changed, inserted and tombstoned ones left out.
        tombstoned: models that were found deleted.
        last_shown_at: model id to the newest upstream time at which an API response had shown it before.
        requests: the GETs that were requested, one for each model at most, in id order.
        erased: models whose personal data was erased.
        differences: rows that were not what an API response showed, as rows of `accuracy_checks`.
        changes: the rows of `model_changes`.
        last_change_id: the id of the last of them, once they are written.
        repeated: events that were processed before; their observations were left out.
    """

    contributed: list[bool]
    inserted: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    tombstoned: set[str] = field(default_factory=set)
    last_shown_at: dict[str, datetime | None] = field(default_factory=dict)
    requests: Sequence[RefetchRequest] = ()
    erased: set[str] = field(default_factory=set)
    differences: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    last_change_id: int | None = None
    repeated: Collection[str] = ()


class _Batch:
    """The models of one batch, while their observations are merged."""

    def __init__(
        self,
        rows: Mapping[str, Any],
        clocks: Mapping[str, Any],
        size: int,
        source: str,
        now: datetime,
        *,
        pull_id: int | None = None,
        foreign_writes: Collection[str] = (),
    ) -> None:
        self._source = source
        self._pull_id = pull_id
        self.now = now
        self._foreign_writes = foreign_writes
        self._compared: set[str] = set()
        self.rows: dict[str, Mapping[str, Any]] = dict(rows)
        self.clocks = clocks
        self.known: dict[str, KnownState] = {
            model_id: decode(rows.get(model_id), stored) for model_id, stored in clocks.items()
        }
        self.written: dict[str, Mapping[str, Any]] = {}
        self.refetch_after: dict[str, datetime] = {}
        self.applied = BatchResult(
            contributed=[False] * size,
            last_shown_at={model_id: stored["profile_at"] for model_id, stored in clocks.items()},
            erased={model_id for model_id, row in rows.items() if row["erased_at"] is not None},
        )

    def take_all(self, observations: Sequence[Observation]) -> None:
        """Merge observations in order of time: so the history has each step of a burst, and none is stale by chance."""
        for place, seen in sorted(enumerate(observations), key=lambda pair: pair[1].at):
            self.take(place, seen)

    def take(self, place: int, seen: Observation) -> None:
        """Merge one observation; a visible change is recorded."""
        model_id = seen.model_id
        old = self.rows.get(model_id)
        before = self.known[model_id]
        merged = merge(before, _without_erased(seen, old))
        self.known[model_id] = merged.known_state
        self.applied.contributed[place] = merged.contributed or old is None
        if (after := merged.refetch_after) is not None:
            self.refetch_after[model_id] = max(after, self.refetch_after.get(model_id, after))
        row = visible(merged.known_state)
        changed = _changed(old, row)
        if changed:
            # Where pages overlap, a second record of a model compares what the first one left.
            if self._source in COMPARING_SOURCES and model_id not in self._compared:
                self._note_difference(model_id, before, old, changed)
                self._compared.add(model_id)
            self._write(seen, old, row, changed)

    def _note_difference(
        self,
        model_id: str,
        before: KnownState,
        old: Mapping[str, Any] | None,
        changed: Mapping[str, list[Any]],
    ) -> None:
        """Note that a row was not what the upstream showed; a GET for what was not known yet compares nothing."""
        if self._source == "refetch":
            changed = {name: pair for name, pair in changed.items() if name in before.fields}
        row = difference_row(
            model_id,
            old,
            known_as_of(before, changed, self.clocks[model_id]["core_at"]),
            changed,
            self.now,
            foreign=model_id in self._foreign_writes,
            pull_id=self._pull_id,
        )
        if row is not None:
            self.applied.differences.append(row)

    def _write(
        self,
        seen: Observation,
        old: Mapping[str, Any] | None,
        row: dict[str, Any],
        changed: dict[str, list[Any]],
    ) -> None:
        """Record a visible change: the new row, and its row in the history."""
        model_id, status = seen.model_id, row["status"]
        row["id"] = model_id
        row["observed_at"] = observed_at = seen.deletion_evidence_at or seen.at
        row["erased_at"] = old and old["erased_at"]
        self.rows[model_id] = self.written[model_id] = row
        if old is None:
            self.applied.inserted.add(model_id)
        elif status == DELETED != old["status"]:
            self.applied.tombstoned.add(model_id)
        elif model_id not in self.applied.inserted:
            self.applied.changed.add(model_id)
        self.applied.changes.append(
            history.change_row(
                model_id,
                changed,
                self._source,
                observed_at,
                event_id=seen.event_id,
                pull_id=self._pull_id,
            )
        )

    def moved_clocks(self) -> dict[str, dict[str, Any]]:
        """The clocks that differ from the stored ones."""
        moved: dict[str, dict[str, Any]] = {}
        for model_id, known in self.known.items():
            clocks = encode(known)
            if not clocks.items() <= self.clocks[model_id].items():
                clocks["model_id"] = model_id
                moved[model_id] = clocks
        return moved

    def refetch_requests(self, now: datetime) -> list[RefetchRequest]:
        """The GETs that these models need, one for each at most, in id order."""
        requests: list[RefetchRequest] = []
        for model_id, known in sorted(self.known.items()):
            if after := self.refetch_after.get(model_id):
                request = RefetchRequest.later_than(after, model_id, RefetchReason.DISPUTE, now)
                # A page that shows a deleted model changes nothing; its pull finds what the GET changes.
                requests.append(request._replace(pull_id=self._pull_id if known.deleted else None))
            elif known.shown_at is None and not known.deleted and known.fields:
                due_at = now + PROFILE_REFETCH_DELAY
                requests.append(RefetchRequest(model_id, None, RefetchReason.PROFILE, due_at))
        return requests


def apply(
    connection: Connection,
    observations: Sequence[Observation],
    source: str,
    *,
    pull_id: int | None = None,
    now: datetime | None = None,
    event_ids: Sequence[str] = (),
    unread: Collection[str] = (),
    record: Callable[[BatchResult], MergedRows | None] | None = None,
) -> BatchResult:
    """Merge a batch of observations into the stored rows.

    Steps: lock the clocks in id order; read the rows; merge in order of upstream time; let the caller write its own
    rows; write what moved or changed, and requests; last, append the changes in commit order.

    Args:
        connection: a transaction; the caller commits, soon.
        observations: any number, of any models, in any order.
        source: `webhook`, `pull`, `refetch` or `api`.
        pull_id: the pull that found them.
        now: our time of the write; the clock's by default.
        event_ids: observations of those that were processed before are left out.
        unread: models of dead events: they are locked, so that an erasure sees the event or the event the erasure.
        record: writes the caller's own rows, or returns events and refetch requests to be written with the rest.
    """
    now = now or datetime.now(UTC)
    ids = _ids(observations)
    # A model that has no row cannot be erased, and gets no clocks for a dead event.
    others = models.existing(connection, sorted(unread)) if unread else ()
    clocks, rows, repeated = lock(connection, sorted({*ids, *others}), event_ids)
    # Only a comparison settles them: a webhook that came meanwhile says nothing of the row.
    foreign = models.take_foreign_writes(connection, ids) if source in COMPARING_SOURCES else ()
    if foreign:
        # One of them may have been written or deleted since the rows were read.
        rows = {one: row for one, row in rows.items() if one not in foreign} | models.read(connection, [*foreign])
    if repeated:
        observations = [seen for seen in observations if seen.event_id not in repeated]
    clocks = {model_id: clocks[model_id] for model_id in _ids(observations)}
    batch = _Batch(rows, clocks, len(observations), source, now, pull_id=pull_id, foreign_writes=foreign)
    batch.applied.repeated = repeated
    batch.take_all(observations)
    accuracy.record(connection, [one for one in batch.applied.differences if one["pull_id"] is not None])
    own = (record(batch.applied) if record else None) or MergedRows()
    batch.applied.requests = requests = _coalesce([*batch.refetch_requests(now), *own.requests])
    moved, written = list(batch.moved_clocks().values()), list(batch.written.values())
    rows_to_write = own._replace(clocks=moved, requests=requests, models=written, changes=batch.applied.changes)
    batch.applied.last_change_id = write(connection, rows_to_write, now)
    return batch.applied


def foresee(
    connection: Connection, observations: Sequence[Observation], source: str, requests: Sequence[RefetchRequest] = ()
) -> BatchResult:
    """The result that `apply` would have now, without a lock and without a write; it takes the same arguments."""
    now = datetime.now(UTC)
    ids = _ids(observations)
    batch = _Batch(models.read(connection, ids), models.read_clocks(connection, ids), len(observations), source, now)
    batch.take_all(observations)
    batch.applied.requests = _coalesce([*batch.refetch_requests(now), *requests])
    return batch.applied


def _ids(observations: Sequence[Observation]) -> list[str]:
    return sorted({seen.model_id for seen in observations})


def _coalesce(requests: Sequence[RefetchRequest]) -> list[RefetchRequest]:
    """One request for each model, in id order: the one whose GET has to be the latest."""
    latest: dict[str, RefetchRequest] = {}
    for request in requests:
        other = latest.setdefault(request.model_id, request)
        if request.after is not None and (other.after is None or request.after > other.after):
            latest[request.model_id] = request
    return [latest[model_id] for model_id in sorted(latest)]


def _without_erased(seen: Observation, row: Mapping[str, Any] | None) -> Observation:
    """An observation without the personal fields, where those of its model were erased."""
    if row is None or row["erased_at"] is None:
        return seen
    return msgspec.structs.replace(
        seen, fields={name: value for name, value in seen.fields.items() if name not in PERSONAL_COLUMNS}
    )


def _changed(old: Mapping[str, Any] | None, row: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Each column that differs, to [old, new]."""
    if old is not None:
        return {name: [old[name], value] for name, value in row.items() if old[name] != value}
    # A first row names the status even where it is not known: so the history shows where it begins.
    return {name: [None, value] for name, value in row.items() if value is not None or name == "status"}
