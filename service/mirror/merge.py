"""The merge: what is known of a model, and how an observation changes it. Pure.

Everything that a source reports of a model is an observation. `merge` joins one to the known state; in whatever order,
however often and in whatever batches the same observations arrive, the known state in the end is the same. That holds
because every part of it is a maximum (or a minimum) over the observations:

- **Fields and groups.** Each field is a register: (time, rank, value), and the greatest wins. Fields come in four
  groups, *core*, *invitation*, *profile* and *detail* (`service.model_fields` lists their fields and sources). A source
  sends a whole group or nothing of it, so that the fields of a group share one time; a field that was absent keeps the
  time at which it was last sent. An absent field is no information, null is a value.
- **Times.** An observation holds from `at`, and it may be as young as `until`. A webhook with a `createdAt` has both
  equal. A webhook without one is as old as anything it mentions and as young as its signature. An API response holds
  from the sending of its request to its arrival. Registers are ordered by `at`.
- **Ties.** At the same time the rank of the status decides (`service.model_fields.STATUSES`), then the greater value;
  null is the least. No event is dropped for being of the same moment.
- **Life and death** are two maxima: the newest evidence of deletion, and the newest single GET that showed it
  alive. It is deleted while gone ≥ alive. Evidence of deletion: `model.deleted`, the status `deleted` anywhere, a
  404 that a complete walk confirms (`service.mirror.deletions`). Nothing but a GET lifts it.
- **Being shown** is a maximum as well: the newest API response that held the model, also where it left out the whole
  profile. A pull proves by it that it has read every model.
- **Refetch requests** demand a GET that is sent after a given time: after a tie with different values; two observations
  that disagree while the interval of one reaches over the other; a list or a webhook that shows a deleted model alive;
  `photos_ready` and `favorite_selected`. A model without a profile needs any GET or list page. Refetch requests may
  depend on the order of arrival; the known state does not, and each order requests a GET wherever it may be wrong.

Why: `docs/decisions/0004-one-merge-of-observations.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from service import model_fields
from service.model_fields import DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

GROUPS = {group.name: model_fields.columns_in(group) for group in model_fields.GROUPS}
CORE, INVITATION, PROFILE, DETAIL = GROUPS.values()
_CORE = frozenset(CORE)
_PROFILE = frozenset(PROFILE)
FIELDS = tuple(field.column for field in model_fields.FIELDS)
_NO_VALUES: dict[str, Any] = dict.fromkeys((*FIELDS, "deleted_at"))

# Progress of a model's life; a status that the vendor adds later ranks below all of them.
RANKS = {status.name: status.rank for status in model_fields.STATUSES}


class Register(Struct, frozen=True, gc=False):
    """One field as it is known: the upstream time, the rank that settles a tie, the value."""

    at: datetime
    rank: int
    value: Any

    def order(self) -> tuple[datetime, int, bool, Any]:
        """The total order of registers of one field; null is its least value."""
        return self.at, self.rank, self.value is not None, self.value


class Observation(Struct, frozen=True):
    """The report of one source about one model.

    Attributes:
        at: upstream time from which it holds.
        until: upstream time until which the source may have read it; equal to `at` where the source is exact.
        fields: the present fields of every group that the source sends.
        deletion_evidence_at: upstream time of the evidence that the model is deleted; None: no such evidence.
        deleted_at: the deletion time that the vendor itself named.
        alive: a single GET showed it alive.
        needs_refetch: something changed that only a single GET can read.
        shows_model: it is an API response that held the model, with or without its fields.
        event_id: the webhook event that contained it.
    """

    model_id: str
    at: datetime
    until: datetime
    fields: Mapping[str, Any]
    deletion_evidence_at: datetime | None = None
    deleted_at: datetime | None = None
    alive: bool = False
    needs_refetch: bool = False
    shows_model: bool = False
    event_id: str | None = None


class KnownState(Struct, frozen=True):
    """All that is known of one model; `NOTHING_KNOWN` is the state of a model before its first observation.

    Attributes:
        alive_at: upstream time of the newest single GET that showed it alive.
        deletion_evidence_from: upstream time of the oldest evidence of a deletion.
        deletion_evidence_at: upstream time of the newest.
        deleted_at_upstream: the newest deletion time that the vendor itself named.
        observed_until: the latest upstream time to which the interval of any observation reaches.
        shown_at: upstream time of the newest API response that held the model.
    """

    fields: Mapping[str, Register] = {}
    alive_at: datetime | None = None
    deletion_evidence_from: datetime | None = None
    deletion_evidence_at: datetime | None = None
    deleted_at_upstream: datetime | None = None
    observed_until: datetime | None = None
    shown_at: datetime | None = None

    @property
    def deleted(self) -> bool:
        """Deleted while the newest evidence of deletion is not older than the newest GET that showed it alive."""
        return self.deletion_evidence_at is not None and (
            self.alive_at is None or self.deletion_evidence_at >= self.alive_at
        )

    @property
    def status_at(self) -> datetime | None:
        """As of when the core's own status is known; a tombstone may hide it."""
        return self.fields["status"].at if "status" in self.fields else None


NOTHING_KNOWN = KnownState()


class MergeResult(NamedTuple):
    """The result of a merge.

    Attributes:
        contributed: the observation won something or confirmed it; False: it lost everything, it is stale.
        refetch_after: a GET sent after this upstream time is needed; None: no dispute.
    """

    known_state: KnownState
    contributed: bool
    refetch_after: datetime | None


def merge(known: KnownState, seen: Observation) -> MergeResult:
    """Join an observation to the known state of its model."""
    fields, contributed, disputed = _join(known, seen)
    merged = KnownState(
        fields=fields,
        alive_at=_later(known.alive_at, seen.at) if seen.alive else known.alive_at,
        deletion_evidence_from=_earlier(known.deletion_evidence_from, seen.deletion_evidence_at),
        deletion_evidence_at=_later(known.deletion_evidence_at, seen.deletion_evidence_at),
        deleted_at_upstream=_later(known.deleted_at_upstream, seen.deleted_at),
        observed_until=_later(known.observed_until, seen.until) if seen.until > seen.at else known.observed_until,
        shown_at=_later(known.shown_at, seen.at) if _shows(seen) else known.shown_at,
    )
    contributed = contributed or _life_and_death(merged) != _life_and_death(known)
    if not (disputed or _may_outlive_death(merged, seen) or (seen.needs_refetch and not _predates_death(merged, seen))):
        return MergeResult(merged, contributed, None)
    return MergeResult(merged, contributed, _later(_later(seen.until, merged.observed_until), merged.status_at))


def _join(known: KnownState, seen: Observation) -> tuple[dict[str, Register], bool, bool]:
    """The fields after an observation, whether it won or confirmed one, and whether one is disputed."""
    at, rank = seen.at, RANKS.get(seen.fields.get("status") or "", 0)
    fields = dict(known.fields)
    contributed = disputed = False
    # The fields of a group share one time: it is compared once for all of them.
    old_at, newer, overlaps = None, True, False
    for name, value in seen.fields.items():
        new = Register(at, rank if name in _CORE else 0, value)
        old = fields.get(name)
        if old is None:
            fields[name], contributed = new, True
            continue
        if old.at is not old_at:
            old_at = old.at
            newer, overlaps = at > old_at, _overlap(old_at, known.observed_until, seen)
        # Times decide nearly always; the whole order is compared only where they do not.
        if newer or new.order() >= old.order():
            fields[name], contributed = new, True
        if overlaps and old.value != value:
            disputed = True
    return fields, contributed, disputed


def _shows(seen: Observation) -> bool:
    """Whether it is an API response that held the model: no other source contains a profile."""
    return seen.shows_model or not _PROFILE.isdisjoint(seen.fields)


def _life_and_death(known: KnownState) -> tuple[datetime | None, ...]:
    return known.alive_at, known.deletion_evidence_from, known.deletion_evidence_at, known.deleted_at_upstream


def visible(known: KnownState) -> dict[str, Any]:
    """The visible columns of `models`, as they follow from the known state."""
    row = _NO_VALUES.copy()
    for name, register in known.fields.items():
        row[name] = register.value
    if known.deleted:
        row["status"] = DELETED
        # Where an earlier death was lifted, the last sign of life is the oldest that this one can be.
        row["deleted_at"] = known.deleted_at_upstream or _later(known.deletion_evidence_from, known.alive_at)
    return row


def _overlap(old_at: datetime, known_until: datetime | None, seen: Observation) -> bool:
    """Whether the time of one reaches over the time of the other: then neither order is sure."""
    if old_at >= seen.at:
        return old_at <= seen.until
    return known_until is not None and seen.at <= known_until


def _predates_death(merged: KnownState, seen: Observation) -> bool:
    """Whether the model is deleted, and surely later than the observation."""
    return merged.deleted and merged.deletion_evidence_at is not None and seen.until < merged.deletion_evidence_at


def _may_outlive_death(merged: KnownState, seen: Observation) -> bool:
    """Whether the model is deleted, and a sign of life is, or may be, later; whichever of the two came last."""
    if merged.deletion_evidence_at is None or not merged.deleted:
        return False
    if seen.deletion_evidence_at is None:
        return "status" in seen.fields and seen.until >= merged.deletion_evidence_at
    if merged.status_at is None or merged.fields["status"].value == DELETED:
        return False
    return max(merged.status_at, merged.observed_until or merged.status_at) >= merged.deletion_evidence_at


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)
