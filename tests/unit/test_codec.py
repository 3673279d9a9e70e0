"""The codec: what is known of a model survives the two rows that it is stored in."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from service.mirror.codec import decode, encode
from service.mirror.merge import CORE, DELETED, FIELDS, NOTHING_KNOWN, Observation, visible
from service.storage.models import CLOCK_COLUMNS, OBSERVED_COLUMNS
from tests.support.histories import MODEL_ID, merge_all, ms, observed, patient

if TYPE_CHECKING:
    from service.mirror.merge import KnownState

# Postgres gives times back in the zone of the session.
ELSEWHERE = timezone(timedelta(hours=5, minutes=30))

knowledges = st.lists(observed(FIELDS), max_size=5).map(merge_all)


def stored(known: KnownState) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both rows as Postgres gives them back."""
    row, clocks = visible(known), encode(known)
    assert set(row) == set(OBSERVED_COLUMNS)
    assert set(clocks) == set(CLOCK_COLUMNS)
    exceptions = clocks["exceptions"]
    clocks["exceptions"] = json.loads(json.dumps(exceptions)) if exceptions is not None else None
    ours = {"id": MODEL_ID, "observed_at": ms(0), "updated_at": ms(0), "erased_at": None}
    return _elsewhere({**ours, **row}), _elsewhere({"model_id": MODEL_ID, **clocks})


def _elsewhere(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.astimezone(ELSEWHERE) if isinstance(value, datetime) else value for name, value in row.items()}


@patient
@given(knowledges)
def test_what_is_known_survives_the_storage(known: KnownState) -> None:
    row, clocks = stored(known)
    assert decode(row, clocks) == known
    assert encode(decode(row, clocks)) == encode(known)


@patient
@given(knowledges, observed(FIELDS))
def test_it_can_be_merged_into_as_if_it_had_never_been_stored(known: KnownState, seen: Observation) -> None:
    assert merge_all([seen], decode(*stored(known))) == merge_all([seen], known)


def test_a_model_without_a_row_is_not_known() -> None:
    assert decode(None, dict.fromkeys(CLOCK_COLUMNS)) == NOTHING_KNOWN


def test_one_time_stands_for_a_group_that_was_told_whole() -> None:
    # Nearly every row: nothing but times is kept beside what people read.
    told = dict.fromkeys(FIELDS) | {"status": "active", "title": "Ann"}
    clocks = encode(merge_all([Observation(MODEL_ID, ms(1), ms(1), told)]))
    assert clocks["exceptions"] is None
    assert clocks["core_status"] is None
    assert {clocks[f"{group}_at"] for group in ("core", "invitation", "profile", "detail")} == {ms(1)}


def test_a_field_that_was_left_out_keeps_its_own_time() -> None:
    first = Observation(MODEL_ID, ms(1), ms(1), {"status": "waiting", "title": "Ann", "finished_at": None})
    second = Observation(MODEL_ID, ms(2), ms(2), {"status": "pending", "title": "Ann"})
    known = merge_all([first, second])
    _, clocks = stored(known)
    assert clocks["exceptions"].keys() == {"finished_at", "uid", "created_at", "is_development"}
    assert decode(*stored(known)).fields["finished_at"].at == ms(1)


def test_a_status_that_was_left_out_is_the_only_exception() -> None:
    told = dict.fromkeys(CORE) | {"status": "waiting"}
    later = {name: value for name, value in told.items() if name != "status"}
    known = merge_all([Observation(MODEL_ID, ms(1), ms(1), told), Observation(MODEL_ID, ms(2), ms(2), later)])
    assert stored(known)[1]["exceptions"].keys() == {"status"}
    assert decode(*stored(known)) == known


def test_the_rank_that_settled_a_tie_is_kept() -> None:
    # Of one moment: the first knows the status, only the second the title; a third one ranks between them.
    first = Observation(MODEL_ID, ms(1), ms(1), {"status": "active"})
    second = Observation(MODEL_ID, ms(1), ms(1), {"status": "waiting", "title": "Ann"})
    third = Observation(MODEL_ID, ms(1), ms(1), {"status": "pending", "title": "Amy"})
    known = merge_all([first, second])
    assert decode(*stored(known)) == known
    assert visible(merge_all([third], decode(*stored(known))))["title"] == "Amy"


def test_the_status_below_a_tombstone_comes_back_with_the_model() -> None:
    for status in ("active", "paused", None):
        alive = Observation(MODEL_ID, ms(1), ms(1), {"status": status, "title": "Ann"})
        gone = Observation(MODEL_ID, ms(2), ms(2), {}, deletion_evidence_at=ms(2))
        row, clocks = stored(merge_all([alive, gone]))
        assert row["status"] == DELETED
        # A GET that shows it alive, and of the core's fields only the title.
        lifted = Observation(MODEL_ID, ms(3), ms(3), {"title": "Bob"}, alive=True)
        known = visible(merge_all([lifted], decode(row, clocks)))
        assert (known["status"], known["title"], known["deleted_at"]) == (status, "Bob", None)
