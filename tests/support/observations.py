"""Generated observations of one model: few times, so that ties and overlapping intervals are common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from service.mirror.merge import CORE, DELETED, DETAIL, INVITATION, PROFILE, RANKS, Observation

MODEL = "507f1f77bcf86cd799439011"
START = datetime(2024, 1, 15, 12, tzinfo=UTC)

times = st.integers(0, 12).map(lambda steps: START + timedelta(seconds=steps))
statuses = st.sampled_from([*(status for status in RANKS if status != DELETED), "archived", None])
texts = st.sampled_from(["a", "b", None])
values: dict[str, st.SearchStrategy[Any]] = {
    "status": statuses,
    "finished_at": st.none() | times,
    "created_at": st.none() | times,
    "invite_expires_at": st.none() | times,
    "is_development": st.booleans() | st.none(),
    "photo_count": st.integers(0, 2) | st.none(),
}


def told(*groups: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Some fields of some groups: any of them may be absent."""
    names = [name for group in groups for name in group]
    return st.fixed_dictionaries({}, optional={name: values.get(name, texts) for name in names})


@st.composite
def webhooks(draw: st.DrawFn) -> Observation:
    """A webhook, with a time of its own or without; perhaps of a death."""
    at = draw(times)
    until = at + timedelta(seconds=draw(st.sampled_from([0, 0, 0, 3])))
    fields = draw(told(CORE, INVITATION))
    if draw(st.integers(0, 5)):
        return Observation(MODEL, at, until, fields, asks=draw(st.booleans()))
    said = draw(st.none() | times)
    return Observation(MODEL, at, until, {**fields, "status": DELETED}, gone_at=until, deleted_at=said)


@st.composite
def answers(draw: st.DrawFn) -> Observation:
    """A row of a list page, or a single GET; perhaps of a deleted model, perhaps a 404 that counts."""
    at = draw(times)
    until = at + timedelta(seconds=draw(st.integers(1, 4)))
    if not draw(st.integers(0, 7)):
        return Observation(MODEL, at, at, {}, gone_at=at)
    single = draw(st.booleans())
    fields = draw(told(CORE, PROFILE, DETAIL) if single else told(CORE, PROFILE))
    if not draw(st.integers(0, 5)):
        return Observation(MODEL, at, until, {**fields, "status": DELETED}, gone_at=at)
    return Observation(MODEL, at, until, fields, alive=single)


histories = st.lists(webhooks() | answers(), min_size=1, max_size=7)
