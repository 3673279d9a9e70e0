"""The models of one batch, while their observations are merged. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from service.mirror.census import difference_row, known_as_of
from service.mirror.codec import decode, encode
from service.mirror.merge import KnownState, merge, visible
from service.model_fields import DELETED, personal_columns
from service.storage import history
from service.storage.refetches import RefetchReason, RefetchRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from service.mirror.merge import Observation
    from service.storage.merged import MergedRows

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
    requests: Sequence[RefetchRequest] = ()
    erased: set[str] = field(default_factory=set)
    differences: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    last_change_id: int | None = None
    repeated: Collection[str] = ()


class MergingBatch:
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
        self._now = now
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
            self._now,
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

    def rows_to_write(self, own: MergedRows) -> MergedRows:
        """The rows of the merge beside the caller's own."""
        self.applied.requests = requests = coalesce([*self.refetch_requests(), *own.requests])
        moved, written = list(self.moved_clocks().values()), list(self.written.values())
        return own._replace(clocks=moved, requests=requests, models=written, changes=self.applied.changes)

    def moved_clocks(self) -> dict[str, dict[str, Any]]:
        """The clocks that differ from the stored ones."""
        moved: dict[str, dict[str, Any]] = {}
        for model_id, known in self.known.items():
            clocks = encode(known)
            if not clocks.items() <= self.clocks[model_id].items():
                clocks["model_id"] = model_id
                moved[model_id] = clocks
        return moved

    def refetch_requests(self) -> list[RefetchRequest]:
        """The GETs that these models need, one for each at most, in id order."""
        requests: list[RefetchRequest] = []
        for model_id, known in sorted(self.known.items()):
            if after := self.refetch_after.get(model_id):
                request = RefetchRequest.later_than(after, model_id, RefetchReason.DISPUTE, self._now)
                # A page that shows a deleted model changes nothing; its pull finds what the GET changes.
                requests.append(request._replace(pull_id=self._pull_id if known.deleted else None))
            elif known.shown_at is None and not known.deleted and known.fields:
                due_at = self._now + PROFILE_REFETCH_DELAY
                requests.append(RefetchRequest(model_id, None, RefetchReason.PROFILE, due_at))
        return requests


def coalesce(requests: Sequence[RefetchRequest]) -> list[RefetchRequest]:
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
