"""The class of a difference, and how long its row was wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.mirror.accuracy import (
    CARRIED,
    Difference,
    DifferenceClass,
    ReceivedEvent,
    Stratum,
    classify,
    staleness,
    stratum_of,
)
from service.mirror.census import known_as_of
from service.mirror.merge import KnownState, Register
from service.model_fields import CORE, Source, fields_of

SEEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AGREED = SEEN - timedelta(minutes=15)
CHANGED = SEEN - timedelta(minutes=4)
ACTIVE: dict[str, Any] = {"status": ["waiting", "active"]}


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def difference(changed: dict[str, Any] = ACTIVE, last_agreed_at: datetime | None = AGREED) -> Difference:
    return Difference(changed, SEEN, last_agreed_at, last_agreed_at)


def event(
    happened_at: datetime | None = CHANGED,
    received_at: datetime = SEEN,
    *,
    applied: bool = True,
    processed_at: datetime | None = None,
    ahead: timedelta = timedelta(0),
    **values: Any,
) -> ReceivedEvent:
    contained = values or {"status": "active", "title": "Ann"}
    return ReceivedEvent("e", happened_at, received_at, applied, contained, processed_at, ahead)


@pytest.mark.parametrize(
    ("after", "kind", "final"),
    [
        (minutes(0), None, False),
        (minutes(4.9), None, False),
        (minutes(5), DifferenceClass.LATE, False),
        (minutes(89), DifferenceClass.LATE, False),
        (minutes(90), DifferenceClass.LOST, True),
    ],
)
def test_difference_without_a_webhook_becomes_late_then_lost(
    after: timedelta, kind: DifferenceClass | None, final: bool
) -> None:
    assert classify(difference(), [], SEEN + after)[:2] == (kind, final)


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (minutes(-3), DifferenceClass.IN_FLIGHT),
        (minutes(5), DifferenceClass.IN_FLIGHT),
        (minutes(6), DifferenceClass.LATE),
        (minutes(90), DifferenceClass.LATE),
        (minutes(91), DifferenceClass.LOST),
    ],
)
def test_arrival_of_the_webhook_decides(received: timedelta, kind: DifferenceClass) -> None:
    verdict = classify(difference(), [event(received_at=SEEN + received)], SEEN + minutes(200))
    assert verdict.kind is kind
    assert verdict.final


def test_earlier_change_of_the_same_model_announces_nothing() -> None:
    before = event(AGREED - minutes(1), AGREED, status="waiting")
    between = event(AGREED + minutes(1), AGREED + minutes(1), status="pending")
    later = event(SEEN + minutes(2), SEEN + minutes(2))
    assert classify(difference(), [before, between, later], SEEN + minutes(91)).kind is DifferenceClass.LOST


def test_fields_that_no_webhook_carries_are_unannounced() -> None:
    changed = {"email": ["a@x.test", "b@x.test"], "team_id": [None, "t"]}
    assert classify(difference(changed), [], SEEN).kind is DifferenceClass.UNANNOUNCED


def test_new_title_alone_is_unannounced() -> None:
    renamed = difference({"title": ["Ann", "Eve"]})
    assert classify(renamed, [event(AGREED - minutes(1), title="Ann")], SEEN).kind is DifferenceClass.UNANNOUNCED


def test_title_that_an_applied_event_contained_is_unexplained() -> None:
    dropped = difference({"title": ["Ann", "Eve"]})
    applied = event(AGREED, AGREED, title="Eve", status="active")
    assert classify(dropped, [applied], SEEN).kind is DifferenceClass.UNEXPLAINED


def test_applied_event_that_said_otherwise_is_unexplained() -> None:
    applied = event(AGREED, AGREED + minutes(1))
    verdict = classify(difference(), [applied], SEEN)
    assert verdict.kind is DifferenceClass.UNEXPLAINED
    assert verdict.event is applied


def test_field_that_an_applied_event_lost_is_unexplained() -> None:
    # The field kept its older time; the rest of the row is as of the event.
    dropped = Difference({"title": ["Ann", "Eve"]}, SEEN, AGREED, CHANGED)
    applied = event(CHANGED, CHANGED, title="Eve", status="active")
    assert classify(dropped, [applied], SEEN).kind is DifferenceClass.UNEXPLAINED


def test_older_event_with_the_same_value_explains_nothing() -> None:
    # Active, then failed, then active again, of which the webhook is lost; the title was known before all that.
    changed = {"status": ["failed", "active"], "title": ["Ann", "Eve"]}
    again = Difference(changed, SEEN, AGREED, AGREED + minutes(2))
    first = event(AGREED + minutes(1), AGREED + minutes(1), status="active")
    second = event(AGREED + minutes(2), AGREED + minutes(2), status="failed")
    assert classify(again, [first, second], SEEN + minutes(4)).kind is not DifferenceClass.UNEXPLAINED


def test_row_is_known_as_of_what_webhooks_carry() -> None:
    registers = {"status": Register(CHANGED, 0, "failed"), "email": Register(AGREED, 0, "a@x.test")}
    before = KnownState(registers)
    assert known_as_of(before, ["email", "status"], CHANGED).fields_at == CHANGED
    assert known_as_of(before, ["email"], CHANGED).fields_at == AGREED


def test_two_events_of_one_moment_explain_nothing() -> None:
    changed = {"status": ["failed", "active"]}
    tied = Difference(changed, SEEN, AGREED, CHANGED)
    events = [event(CHANGED, CHANGED, status=status) for status in ("active", "failed")]
    assert classify(tied, events, SEEN + minutes(4)).kind is not DifferenceClass.UNEXPLAINED


def test_difference_is_not_late_while_older_deliveries_wait() -> None:
    # It is an hour later, and the oldest delivery that waits came four minutes after the difference was seen.
    assert classify(difference(), [], SEEN + minutes(4))[:2] == (None, False)


def test_event_that_waits_is_no_fault_of_its_row() -> None:
    waiting = event(CHANGED, CHANGED, title="Ann", status="active")
    assert classify(difference(), [waiting], SEEN).kind is DifferenceClass.IN_FLIGHT


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("last_agreed_at", [AGREED, None])
def test_processed_event_that_is_not_in_its_row_is_unexplained(applied: bool, last_agreed_at: datetime | None) -> None:
    dropped = event(CHANGED, CHANGED, applied=applied, processed_at=CHANGED)
    verdict = classify(difference(last_agreed_at=last_agreed_at), [dropped], SEEN)
    assert (verdict.kind, verdict.event) == (DifferenceClass.UNEXPLAINED, dropped)


@pytest.mark.parametrize("processed", [timedelta(seconds=-9), timedelta(seconds=20)])
def test_event_processed_with_the_difference_is_no_fault(processed: timedelta) -> None:
    meanwhile = event(CHANGED, CHANGED, applied=False, processed_at=SEEN + processed)
    assert classify(difference(), [meanwhile], SEEN).kind is DifferenceClass.IN_FLIGHT


def test_event_that_newer_evidence_outdated_is_no_fault() -> None:
    # The title is known as of an older time than the status, which something newer than the event reported.
    changed = {"status": ["failed", "active"], "title": ["Ann", "Eve"]}
    outdated = Difference(changed, SEEN, AGREED, CHANGED + minutes(1))
    stale = event(CHANGED, CHANGED, applied=False, processed_at=CHANGED)
    assert classify(outdated, [stale], SEEN).kind is not DifferenceClass.UNEXPLAINED


def test_newer_processed_event_with_another_value_is_no_fault() -> None:
    again = difference({"status": ["waiting", "active"]})
    first = event(CHANGED - minutes(1), CHANGED, processed_at=CHANGED)
    second = event(CHANGED, CHANGED, status="failed", processed_at=CHANGED)
    assert classify(again, [first, second], SEEN).kind is not DifferenceClass.UNEXPLAINED


@pytest.mark.parametrize("known_at", [AGREED, CHANGED])
def test_event_that_lifts_no_tombstone_is_no_fault(known_at: datetime) -> None:
    tombstone = Difference({"status": ["deleted", "active"]}, SEEN, AGREED, known_at)
    sign_of_life = event(CHANGED, CHANGED, processed_at=CHANGED)
    assert classify(tombstone, [sign_of_life], SEEN).kind is DifferenceClass.IN_FLIGHT


def test_webhook_without_a_time_announces_what_it_follows() -> None:
    untimed = event(None, SEEN + minutes(1))
    assert classify(difference(), [untimed], SEEN + minutes(2)).kind is DifferenceClass.IN_FLIGHT
    old = event(None, SEEN - minutes(2))
    assert classify(difference(), [old], SEEN + minutes(91)).kind is DifferenceClass.LOST


def test_clock_behind_the_upstreams_loses_no_webhook() -> None:
    """The event seems to have happened after the row was compared; its signature shows that it did not."""
    ahead = minutes(2)
    came = event(SEEN + minutes(1), SEEN + minutes(0.1), ahead=ahead)
    assert classify(difference(), [came], SEEN + minutes(91)) == (DifferenceClass.IN_FLIGHT, True, came)
    assert staleness(difference(), came) == (60, False)
    later = event(SEEN + minutes(3), SEEN + minutes(1.1), ahead=ahead)
    assert classify(difference(), [later], SEEN + minutes(91)).kind is DifferenceClass.LOST


def test_columns_of_webhooks_and_responses_share_one_clock() -> None:
    """One time as of which a row was right is enough to judge an event, whichever columns differed."""
    shown = {field.group for field in (*fields_of(Source.LIST), *fields_of(Source.SINGLE)) if field.column in CARRIED}
    assert shown == {CORE}


def test_staleness_is_exact_where_the_event_is_known() -> None:
    assert staleness(difference(), event()) == (240.0, False)


def test_staleness_without_an_event_is_the_whole_interval() -> None:
    assert staleness(difference(), None) == (900.0, True)


def test_upstream_itself_names_some_times() -> None:
    ready = {**ACTIVE, "finished_at": [None, CHANGED.isoformat()]}
    assert staleness(difference(ready), None) == (240.0, False)
    created = {"status": [None, "waiting"], "created_at": [None, CHANGED.isoformat()]}
    assert staleness(difference(created, None), None) == (240.0, False)


def test_unknown_model_without_a_creation_time_has_no_staleness() -> None:
    assert staleness(difference({"status": [None, "waiting"]}, None), None) is None


@pytest.mark.parametrize(
    ("status", "since", "stratum"),
    [
        ("waiting", None, Stratum.MOVING),
        ("failed", SEEN, Stratum.MOVING),
        (None, SEEN, Stratum.MOVING),
        ("active", SEEN - timedelta(days=6), Stratum.ACTIVE_NEW),
        ("active", SEEN - timedelta(days=8), Stratum.ACTIVE_OLD),
        ("active", None, Stratum.ACTIVE_OLD),
        ("deleted", SEEN, Stratum.TOMBSTONE),
    ],
)
def test_strata_of_rows(status: str | None, since: datetime | None, stratum: Stratum) -> None:
    assert stratum_of(status, since, SEEN) is stratum
