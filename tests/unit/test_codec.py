"""Knowledge as rows: nothing is lost on the way into the tables and back."""

from __future__ import annotations

import json

from hypothesis import given

from service.mirror.codec import decode, encode
from service.mirror.merge import DELETED, NOTHING, Observation, merge
from tests.support.observations import MODEL, START, histories


@given(histories)
def test_what_is_stored_is_what_was_known(seen: list[Observation]) -> None:
    knowledge = NOTHING
    for one in seen:
        knowledge = merge(knowledge, one).knowledge
    row, clocks = encode(knowledge)
    # `exceptions` is jsonb, and the visible row holds one status only.
    clocks["exceptions"] = json.loads(json.dumps(clocks["exceptions"]))
    assert decode(row, clocks) == knowledge


def test_a_tombstone_keeps_the_status_that_it_hides() -> None:
    alive = Observation(MODEL, START, START, {"status": "active"})
    gone = Observation(MODEL, START, START, {}, gone_at=START)
    knowledge = merge(merge(NOTHING, alive).knowledge, gone).knowledge
    row, clocks = encode(knowledge)
    assert (row["status"], clocks["core_status"]) == (DELETED, "active")


def test_a_group_that_was_told_whole_needs_no_exceptions() -> None:
    profile = {"email": "a@b.example", "team_id": None, "team_name": None}
    _, clocks = encode(merge(NOTHING, Observation(MODEL, START, START, profile)).knowledge)
    assert (clocks["profile_at"], clocks["exceptions"]) == (START, None)
