"""Observations of one model for property tests: few values and fewer times, so that ties and overlaps are common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.mirror.codec import decode
from service.mirror.merge import (
    CORE,
    DELETED,
    DETAIL,
    FIELDS,
    INVITATION,
    NOTHING_KNOWN,
    PROFILE,
    RANKS,
    Observation,
    merge,
)
from service.mirror.merging_batch import MergingBatch
from service.storage.models import CLOCK_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from hypothesis.strategies import SearchStrategy

    from service.mirror.merge import KnownState

# No property is about time, and machines are slow at times; some ask for histories that few draws give.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])

MODEL_ID = "65a51e4000000000000000a1"
# And a microsecond: nothing of a time may be cut.
NOON = datetime(2024, 1, 15, 12, 0, 0, 1, tzinfo=UTC)
# Moments that are drawn from, as milliseconds after noon.
LAST = 6


def ms(number: int) -> datetime:
    """A moment, in milliseconds after noon."""
    return NOON + timedelta(milliseconds=number)


moments = st.integers(0, LAST).map(ms)
_times = st.none() | moments
_texts = st.sampled_from((None, "a", "b"))
_VALUES: dict[str, SearchStrategy[Any]] = {
    **dict.fromkeys(FIELDS, _texts),
    "status": st.sampled_from((None, *RANKS, "paused", "zombie")),
    "finished_at": _times,
    "created_at": _times,
    "invite_expires_at": _times,
    "is_development": st.sampled_from((None, False, True)),
    "photo_count": st.sampled_from((None, 0, 40)),
}
# The merge treats the fields of a group alike, so a few represent all; it is quicker to draw fewer.
FEW = frozenset({"status", "title", "finished_at", "trigger", "email", "photo_count"})


def _fields(wanted: Container[str], *names: str) -> SearchStrategy[dict[str, Any]]:
    """All of these fields or some."""
    chosen = {name: _VALUES[name] for name in names if name in wanted}
    return st.fixed_dictionaries(chosen) | st.fixed_dictionaries({}, optional=chosen)


@st.composite
def webhooks(draw: st.DrawFn, wanted: Container[str]) -> Observation:
    """Core and invitation; exact, or (without its own time) as young as its signature."""
    at = draw(moments)
    until = draw(st.just(at) | st.integers(0, LAST).map(lambda more: at + timedelta(milliseconds=more)))
    seen = Observation(
        MODEL_ID, at, until, draw(_fields(wanted, *CORE, *INVITATION)), needs_refetch=draw(st.booleans())
    )
    if draw(st.integers(0, 5)) == 0 or seen.fields.get("status") == DELETED:
        said = draw(_times)
        return replace(seen, fields={**seen.fields, "status": DELETED}, deletion_evidence_at=until, deleted_at=said)
    return seen


@st.composite
def answers(draw: st.DrawFn, wanted: Container[str] = FEW, *, single: bool) -> Observation:
    """A row of a list page, or a single GET: core, profile and detail, within an interval."""
    at = draw(moments)
    until = at + timedelta(milliseconds=draw(st.integers(0, LAST)))
    fields = draw(_fields(wanted, *CORE, *PROFILE, *(DETAIL if single else ())))
    gone = fields.get("status") == DELETED
    alive = single and fields.get("status") is not None and not gone
    return Observation(MODEL_ID, at, until, fields, deletion_evidence_at=at if gone else None, alive=alive)


def observed(wanted: Container[str] = FEW) -> SearchStrategy[Observation]:
    """One observation by any source, with some of these fields."""
    absences = moments.map(lambda at: Observation(MODEL_ID, at, at, {}, deletion_evidence_at=at))
    return webhooks(wanted) | answers(wanted, single=False) | answers(wanted, single=True) | absences


observations = observed()
histories = st.lists(observations, min_size=1, max_size=5)


def merge_all(seen: Iterable[Observation], known: KnownState = NOTHING_KNOWN) -> KnownState:
    """The known state after these observations."""
    return reduce(lambda known_state, observation: merge(known_state, observation).known_state, seen, known)


def refetch_times(seen: Sequence[Observation]) -> list[datetime]:
    """The times of the questions that are asked while these are merged in this order."""
    known, asked = NOTHING_KNOWN, []
    for observation in seen:
        known, _, after = merge(known, observation)
        asked += [after] if after else []
    return asked


def in_batches(batches: Iterable[Sequence[Observation]]) -> KnownState:
    """The known state after batches that are applied as `apply` does, through the stored form of rows and clocks."""
    rows: dict[str, Any] = {}
    clocks: dict[str, Any] = {MODEL_ID: dict.fromkeys(CLOCK_COLUMNS)}
    for seen in batches:
        batch = MergingBatch(rows, clocks, len(seen), "test", NOON)
        for place, one in sorted(enumerate(seen), key=lambda pair: pair[1].at):
            batch.take(place, one)
        rows, clocks = {**rows, **batch.written}, {**clocks, **batch.moved_clocks()}
    return decode(rows.get(MODEL_ID), clocks[MODEL_ID])
