"""The laws of the merge, over generated histories: its specification as properties.

First that order, repetition and batches do not matter; then that every order asks wherever what is known may be wrong.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.mirror.merge import CORE, DELETED, DETAIL, FIELDS, PROFILE, Observation, merge, visible
from tests.support.histories import (
    LAST,
    MODEL_ID,
    answers,
    histories,
    in_batches,
    merge_all,
    moments,
    ms,
    observations,
    patient,
    refetch_times,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

LONG_AGO = ms(-1)


@patient
@given(histories, st.data())
def test_any_order_and_duplication_gives_the_same_known_state(history: list[Observation], data: Any) -> None:
    again = data.draw(st.lists(st.sampled_from(history), max_size=3))
    other = data.draw(st.permutations(history + again))
    assert merge_all(other) == merge_all(history)
    assert visible(merge_all(other)) == visible(merge_all(history))


@patient
@given(histories, st.data())
def test_any_batching_ends_in_the_same_known_state(history: list[Observation], data: Any) -> None:
    order = data.draw(st.permutations(history))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=3)))
    batches = [order[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    assert in_batches(batch for batch in batches if batch) == merge_all(history)


@patient
@given(histories, observations)
def test_what_is_merged_twice_changes_nothing(history: list[Observation], seen: Observation) -> None:
    known = merge_all([*history, seen])
    assert merge_all([seen], known) == known


@patient
@given(histories, observations)
def test_an_older_observation_never_changes_a_newer_field(history: list[Observation], seen: Observation) -> None:
    known, after = merge_all(history), merge_all([*history, seen])
    for name, register in known.fields.items():
        assert after.fields[name].at >= register.at
        if register.at > seen.at:
            assert after.fields[name] == register


@patient
@given(histories, observations)
def test_what_is_stale_lost_everything(history: list[Observation], seen: Observation) -> None:
    known = merge_all(history)
    merged = merge(known, seen)
    if not merged.contributed:
        assert replace(merged.known_state, observed_until=known.observed_until) == known


@patient
@given(histories, observations)
def test_nothing_but_a_younger_get_revives_a_tombstone(history: list[Observation], seen: Observation) -> None:
    known = merge_all([*history, Observation(MODEL_ID, ms(LAST), ms(LAST), {}, deletion_evidence_at=ms(LAST))])
    assert known.deleted
    after = merge_all([seen], known)
    assert after.deleted
    assert visible(after)["status"] == DELETED
    assert after.deletion_evidence_at is not None
    later = Observation(
        MODEL_ID, after.deletion_evidence_at + timedelta(milliseconds=1), ms(99), {"status": "active"}, alive=True
    )
    assert visible(merge_all([later], after))["status"] == "active"


@patient
@given(histories)
def test_a_row_says_deleted_and_when_together(history: list[Observation]) -> None:
    known = visible(merge_all(history))
    assert (known["status"] == DELETED) == (known["deleted_at"] is not None)


@patient
@given(histories, answers(single=True))
def test_a_get_that_is_younger_than_all_wins_all(history: list[Observation], seen: Observation) -> None:
    later = replace(seen, at=ms(50), until=ms(51), deletion_evidence_at=ms(50) if seen.deletion_evidence_at else None)
    known = visible(merge_all([*history, later]))
    assert known.items() >= dict(seen.fields).items() or known["status"] == DELETED
    if seen.alive:
        assert known["status"] == seen.fields["status"]


# --- questions: in every order of arrival one is asked wherever what is known may be wrong


def doubts(history: Sequence[Observation], names: Iterable[str]) -> dict[str, Any]:
    """Fields about which another value may be younger than the one that won, with the time of that doubt."""
    found = {}
    for name in names:
        winner = merge_all(history).fields.get(name)
        others = [seen for seen in history if winner and name in seen.fields and seen.fields[name] != winner.value]
        times = [seen.until for seen in others if winner and seen.until >= winner.at]
        if times:
            found[name] = max(times)
    return found


@patient
@given(histories, st.data())
def test_every_doubt_is_asked_about_in_every_order(history: list[Observation], data: Any) -> None:
    doubtful = doubts(history, FIELDS)
    order = data.draw(st.permutations(history))
    asked = max(refetch_times(order), default=LONG_AGO)
    assert asked >= max(doubtful.values(), default=LONG_AGO)
    # And the answer settles it: a GET sent after the question wins every field in doubt that it contains.
    sent = asked + timedelta(milliseconds=1)
    truth = dict.fromkeys((*CORE, *PROFILE, *DETAIL)) | {"status": "waiting"}
    answer = Observation(MODEL_ID, sent, sent, truth, alive=True)
    settled = merge_all([*order, answer])
    for name in doubtful.keys() & truth.keys():
        assert settled.fields[name].value == truth[name]


@patient
@given(histories, observations, moments, st.data())
def test_live_observation_after_deletion_always_needs_refetch(
    history: list[Observation], life: Observation, died: datetime, data: Any
) -> None:
    order = data.draw(
        st.permutations([*history, life, Observation(MODEL_ID, died, died, {}, deletion_evidence_at=died)])
    )
    known = merge_all(order)
    lives = [seen.until for seen in order if seen.deletion_evidence_at is None and "status" in seen.fields]
    after = [
        until for until in lives if known.deleted and known.deletion_evidence_at and until >= known.deletion_evidence_at
    ]
    asked = max(refetch_times(order), default=LONG_AGO)
    assert asked >= max(after, default=LONG_AGO)
    if after:
        answer = Observation(MODEL_ID, asked + timedelta(milliseconds=1), ms(99), {"status": "waiting"}, alive=True)
        assert visible(merge_all([*order, answer]))["status"] == "waiting"


@patient
@given(histories, observations, st.data())
def test_what_only_a_get_reads_is_asked_for_in_every_order(
    history: list[Observation], seen: Observation, data: Any
) -> None:
    asking = replace(seen, needs_refetch=True)
    order = data.draw(st.permutations([*history, asking]))
    known = merge_all(order)
    # Nobody asks about the dead, and a GET that lifted a younger death has read what was asked for.
    answered = known.deletion_evidence_at is not None and asking.until < known.deletion_evidence_at
    assert answered or max(refetch_times(order)) >= asking.until


@patient
@given(st.lists(moments, min_size=1, max_size=5), st.data())
def test_exact_observations_of_different_times_need_no_refetch(times: list[Any], data: Any) -> None:
    # A GET is dear: what the vendor dates itself is believed as long as no two dates are the same.
    history = [
        Observation(MODEL_ID, at, at, {"status": data.draw(st.sampled_from(("waiting", "failed")))})
        for at in set(times)
    ]
    assert refetch_times(data.draw(st.permutations(history))) == []
