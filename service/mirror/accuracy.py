"""Classifies differences between the mirror and the upstream. Pure: all times are arguments.

Each difference that a pull or an accuracy check finds has one class:

- `in_flight`: its webhook waited, or arrived within five minutes after the difference was seen.
- `late`: its webhook was not there after five minutes.
- `lost`: its webhook was not there after 90 minutes. The vendor sends again after 5, 15 and 60 minutes.
- `unannounced`: only fields differ of whose change the vendor sends no webhook.
- `foreign_write`: another program wrote the row. The merge that repairs it sees that, so no event matters.
- `unexplained`: the newest event that was merged, or had to be, contained what the upstream shows, and the row did not:
  our own fault.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from service import model_fields
from service.model_fields import ACTIVE, DELETED, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATE_AFTER = timedelta(minutes=5)
LOST_AFTER = timedelta(minutes=90)
# The vendor's clock and ours may differ by this much.
CLOCK_TOLERANCE = timedelta(seconds=10)
# A webhook without a time of its own announces what was seen at most this long before it arrived.
UNTIMED_TOLERANCE = timedelta(minutes=1)
# A model counts as new for this long after its headshots were ready.
NEW_FOR = timedelta(days=7)

# The columns that webhooks carry.
CARRIED = frozenset(model_fields.columns_of(Source.WEBHOOK))


class DifferenceClass(StrEnum):
    """The classes of differences."""

    IN_FLIGHT = "in_flight"
    LATE = "late"
    LOST = "lost"
    UNANNOUNCED = "unannounced"
    FOREIGN_WRITE = "foreign_write"
    UNEXPLAINED = "unexplained"


class Stratum(StrEnum):
    """The parts of the mirror that are checked at the same rate, however large each is."""

    MOVING = "moving"  # live and not active
    ACTIVE_NEW = "active_new"  # for less than seven days
    ACTIVE_OLD = "active_old"
    TOMBSTONE = "tombstone"


# `service.storage.accuracy` has the same in SQL.
def stratum_of(status: str | None, active_since: datetime | None, now: datetime) -> Stratum:
    """The stratum of a row. `active_since`: when its headshots were ready, or else when it was created."""
    if status == DELETED:
        return Stratum.TOMBSTONE
    if status != ACTIVE:
        return Stratum.MOVING
    return Stratum.ACTIVE_NEW if active_since and active_since > now - NEW_FOR else Stratum.ACTIVE_OLD


class Difference(NamedTuple):
    """A row that differed from what the upstream showed.

    Attributes:
        changed: each column that differed, to its value in the row and the upstream's, both as JSON.
        seen_at: our time at which it was found.
        last_agreed_at: upstream time as of which the row was last known to be right, in the columns that webhooks
            carry where some of them differed; None: the model was unknown.
        known_at: upstream time of the newest observation that the row's core came from; None as above.
    """

    changed: Mapping[str, Sequence[Any]]
    seen_at: datetime
    last_agreed_at: datetime | None
    known_at: datetime | None = None


class ReceivedEvent(NamedTuple):
    """An event about the model of a difference.

    Attributes:
        happened_at: upstream time; None where it has none.
        received_at: our time of its arrival.
        applied: it was merged into the row.
        values: the columns that it contained, as JSON.
        processed_at: our time at which a drain was done with it, however it judged it; None where it is not known.
        ahead: the least by which the upstream's clock was ahead of ours; no delivery arrives before it is signed.
    """

    id: str
    happened_at: datetime | None
    received_at: datetime
    applied: bool
    values: Mapping[str, Any]
    processed_at: datetime | None = None
    ahead: timedelta = timedelta(0)


class Verdict(NamedTuple):
    """The facts about a difference so far.

    Attributes:
        kind: its class; None while its webhook may still arrive in time.
        final: whether no later event can change it.
        event: the event that announced it, or that we applied wrongly.
    """

    kind: DifferenceClass | None
    final: bool = True
    event: ReceivedEvent | None = None


def classify(difference: Difference, events: Sequence[ReceivedEvent], known_to: datetime) -> Verdict:
    """The class of a difference.

    `known_to` is the time, ours, before which every event that was received is among them: now, unless some wait.
    """
    carried = {name: new for name, (_old, new) in difference.changed.items() if name in CARRIED}
    if verdict := _misapplied(difference, carried, events):
        return verdict
    # Each webhook carries the title; none is sent because it changed.
    if "status" not in carried:
        return Verdict(DifferenceClass.UNANNOUNCED)
    announcing = [event for event in events if event.values.get("status") == carried["status"]]
    return _announced(difference, announcing) or _unannounced_yet(difference, known_to)


def _misapplied(difference: Difference, carried: Mapping[str, Any], events: Sequence[ReceivedEvent]) -> Verdict | None:
    """Find an event that had to be in the row before the difference was seen, and of which it took over too little.

    It is the newest of those with the column: an older one may rightly have another value.
    """
    if "status" in carried and difference.changed["status"][0] == DELETED:
        # Only a GET lifts a tombstone: an event that reports life rightly leaves it.
        return None
    due = [
        (event.happened_at, event)
        for event in events
        if event.happened_at is not None and _had_to_be_merged(event, event.happened_at, difference)
    ]
    for name, shown in carried.items():
        containing = [(at, event) for at, event in due if name in event.values]
        newest_at = max((at for at, _event in containing), default=None)
        newest = [event for at, event in containing if at == newest_at]
        # Of two values of one moment the merge takes either, and requests a GET.
        if newest and all(event.values[name] == shown for event in newest):
            return Verdict(DifferenceClass.UNEXPLAINED, event=newest[0])
    return None


def _had_to_be_merged(event: ReceivedEvent, happened_at: datetime, difference: Difference) -> bool:
    """Whether an event's values had to be in the row, unless a newer event had others.

    A row with evidence that is newer than the event rightly ignores it: then only an event that was merged counts. One
    that is newer than all evidence had to be merged, whatever the drain called it.
    """
    last_agreed_at, known_at = difference.last_agreed_at, difference.known_at
    if last_agreed_at is not None and happened_at < last_agreed_at:
        return False
    if known_at is not None and happened_at <= known_at:
        return event.applied and last_agreed_at is not None
    # Postgres' clock and the worker's may differ, and the drain's transaction ends a little later.
    return event.processed_at is not None and event.processed_at < difference.seen_at - CLOCK_TOLERANCE


def _announced(difference: Difference, events: Sequence[ReceivedEvent]) -> Verdict | None:
    announcements = [event for event in events if _announces(event, difference)]
    first = min(announcements, key=lambda event: event.received_at, default=None)
    if first is None or first.received_at > difference.seen_at + LOST_AFTER:
        return None
    in_time = first.received_at <= difference.seen_at + LATE_AFTER
    return Verdict(DifferenceClass.IN_FLIGHT if in_time else DifferenceClass.LATE, event=first)


def _unannounced_yet(difference: Difference, known_to: datetime) -> Verdict:
    if known_to < difference.seen_at + LATE_AFTER:
        return Verdict(None, final=False)
    if known_to < difference.seen_at + LOST_AFTER:
        return Verdict(DifferenceClass.LATE, final=False)
    return Verdict(DifferenceClass.LOST)


def _announces(event: ReceivedEvent, difference: Difference) -> bool:
    """Whether an event happened after the row was last right, and no later than the difference was seen."""
    if event.happened_at is None:
        return event.received_at > difference.seen_at - UNTIMED_TOLERANCE
    after = difference.last_agreed_at is None or event.happened_at > difference.last_agreed_at
    return after and event.happened_at - event.ahead <= difference.seen_at + CLOCK_TOLERANCE


def staleness(difference: Difference, event: ReceivedEvent | None) -> tuple[float, bool] | None:
    """How long a row was wrong; None where not even an upper end is known.

    In seconds until the difference was seen, and whether they are only the upper end of an interval.

    The time of the change is that of its event; or else one that the upstream itself names: the creation of a model
    that was unknown, the readiness of one that became active; or else at the earliest the time as of which the row was
    last known to be right.
    """
    changed_at = event.happened_at - event.ahead if event and event.happened_at else None
    if changed_at is None:
        changed_at = _time_in(difference)
    if changed_at is not None:
        return max(0.0, (difference.seen_at - changed_at).total_seconds()), False
    return longest_staleness(difference)


def longest_staleness(difference: Difference) -> tuple[float, bool] | None:
    """How long a row was wrong at most, as `staleness` returns it; None where it was unknown before."""
    if difference.last_agreed_at is None:
        return None
    return max(0.0, (difference.seen_at - difference.last_agreed_at).total_seconds()), True


def _time_in(difference: Difference) -> datetime | None:
    """The upstream's own time of the change, where the differing columns contain it and it fits."""
    changed = {name: new for name, (_old, new) in difference.changed.items()}
    if difference.last_agreed_at is None:
        named = changed.get("created_at")
    elif changed.get("status") == ACTIVE:
        named = changed.get("finished_at")
    else:
        return None
    time = datetime.fromisoformat(named) if isinstance(named, str) else None
    if time is None or time > difference.seen_at:
        return None
    return time if difference.last_agreed_at is None or time > difference.last_agreed_at else None
