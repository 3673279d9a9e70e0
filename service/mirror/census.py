"""The census: every pull compares the rows that it reads with the mirror's, and each difference gets a class later.

The merge itself finds the differences: a row that it changes was not what the upstream shows. A row whose digest is
unchanged was not changed by us either; of one that another program writes, the trigger `models_changed` makes a note in
`foreign_writes`, and no page confirms it.

Why: `docs/decisions/0040-a-mirror-that-states-its-error.md`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from service import model_fields
from service.mirror.accuracy import (
    Difference,
    DifferenceClass,
    ReceivedEvent,
    Verdict,
    classify,
    longest_staleness,
    staleness,
    stratum_of,
)
from service.mirror.webhooks import stored_event
from service.model_fields import DELETED, Source
from service.storage import accuracy
from service.storage.history import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from service.mirror.merge import KnownState

LIST_COLUMNS = model_fields.columns_of(Source.LIST)
SINGLE_COLUMNS = model_fields.columns_of(Source.SINGLE)
BATCH_SIZE = 500


class KnownAsOf(NamedTuple):
    """Upstream times as of which a row was known before it was compared; None: it was unknown.

    Attributes:
        fields_at: the oldest of the columns that differed; the model's creation where none of them was known.
        core_at: the newest of the core's columns.
    """

    fields_at: datetime | None
    core_at: datetime | None


def known_as_of(before: KnownState, changed: Iterable[str], core_at: datetime | None) -> KnownAsOf:
    """As of when a row was known.

    Args:
        before: its known state; none where another program deleted the row.
        changed: the columns that differed.
        core_at: the clock of its core.
    """
    times = [before.fields[name].at for name in changed if name in before.fields]
    # A column that was never known, such as the address of a model that only webhooks named, is missing since then.
    created = before.fields.get("created_at")
    created_at: datetime | None = created.value if created else None
    never_known = created_at if before.fields else core_at
    return KnownAsOf(min(times, default=never_known), core_at)


def difference_row(
    model_id: str,
    old: Mapping[str, Any] | None,
    known: KnownAsOf,
    changed: Mapping[str, Sequence[Any]],
    now: datetime,
    *,
    foreign: bool = False,
    pull_id: int | None = None,
) -> dict[str, Any] | None:
    """A row of `accuracy_checks` for a row that a merge of the upstream's response changed; None: no difference of it.

    Args:
        model_id: the model.
        old: its row before; None: it was unknown.
        known: as of when it was known before.
        changed: each column that changed, to [old, new].
        now: our time of the merge.
        foreign: another program wrote the row since it was last compared.
        pull_id: the pull that found it.
    """
    fields = [name for name in (SINGLE_COLUMNS if pull_id is None else LIST_COLUMNS) if name in changed]
    if not fields:
        return None
    seen = Difference({name: [to_json(value), to_json(shown)] for name, (value, shown) in changed.items()}, now, *known)
    # The upstream's times say nothing of when another program wrote.
    stale = longest_staleness(seen) if foreign else staleness(seen, None)
    return {
        "checked_at": now,
        "method": "census",
        "pull_id": pull_id,
        "model_id": model_id,
        "stratum": old and stratum_of(old["status"], old["finished_at"] or old["created_at"], now),
        "agreed": False,
        "fields": fields,
        "last_agreed_at": known.fields_at,
        "core_at": known.core_at,
        "class": DifferenceClass.FOREIGN_WRITE if foreign else None,
        "decided_at": now if foreign else None,
        "repaired_at": now,
        "with_details": False,
        "stale_seconds": stale and stale.seconds,
        "censored": stale and stale.censored,
    }


def classify_differences(connection: Connection, tolerance: timedelta, now: datetime | None = None) -> int:
    """Give every difference its class, as far as it can be known now, and count the webhooks of the pulls.

    Args:
        connection: a transaction.
        tolerance: how far an event's own time may lie ahead of its signature.
        now: our time; the clock's by default.

    Returns:
        How many differences were looked at.
    """
    now = now or datetime.now(UTC)
    above = seen = 0
    pull_ids: set[int] = set()
    while found := accuracy.undecided(connection, above, BATCH_SIZE):
        events = _events(connection, [one["id"] for one in found], tolerance)
        accuracy.save(connection, [_verdict_row(one, events[one["id"]], now) for one in found])
        pull_ids.update(one["pull_id"] for one in found if one["pull_id"] is not None)
        above, seen = found[-1]["id"], seen + len(found)
    accuracy.count_for_pulls(connection, sorted(pull_ids))
    accuracy.note_repairs(connection)
    return seen


def _verdict_row(found: Mapping[str, Any], events: Sequence[ReceivedEvent], now: datetime) -> dict[str, Any]:
    difference = Difference(
        # A 404 changes no row by itself.
        found["changed"] or {"status": [None, DELETED]},
        found["checked_at"],
        found["last_agreed_at"],
        found["core_at"],
    )
    verdict: Verdict = classify(difference, events, now)
    stale = staleness(difference, verdict.event)
    return {
        "id": found["id"],
        "class": verdict.kind,
        "event_id": verdict.event and verdict.event.id,
        "final": verdict.final,
        "stale_seconds": stale and stale.seconds,
        "censored": stale and stale.censored,
    }


def _events(connection: Connection, check_ids: list[int], tolerance: timedelta) -> dict[int, list[ReceivedEvent]]:
    """The events about the models of some differences, by the difference."""
    found: dict[int, list[ReceivedEvent]] = defaultdict(list)
    for row in accuracy.events_about(connection, check_ids):
        observation = stored_event(row, tolerance).observation
        if observation is not None:
            values = {name: to_json(value) for name, value in observation.fields.items()}
            event = ReceivedEvent(row["id"], row["created_at"], row["received_at"], row["status"] == "applied", values)
            found[row["check_id"]].append(event)
    return found
