"""The census: every pull compares the rows that it reads with the mirror's, and each difference gets a class later.

The merge itself finds the differences: a row that it changes was not what the upstream shows. A row whose digest is
unchanged was not changed by us either; of one that another program writes, the trigger `models_changed` makes a note in
`foreign_writes`, and no page confirms it.

Why: `docs/decisions/0040-a-mirror-that-states-its-error.md`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from service import model_fields
from service.mirror.accuracy import (
    CARRIED,
    LATE_AFTER,
    LOST_AFTER,
    Difference,
    DifferenceClass,
    ReceivedEvent,
    classify,
    longest_staleness,
    staleness,
    stratum_of,
)
from service.mirror.codec import LIST_COLUMNS
from service.mirror.webhooks import stored_event
from service.model_fields import DELETED, Source
from service.storage import accuracy, spool
from service.storage.database import WHOLE_TABLE_SECONDS, transaction
from service.storage.history import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.broker.inbox import Inbox
    from service.mirror.merge import KnownState

SINGLE_COLUMNS = model_fields.columns_of(Source.SINGLE)
BATCH_SIZE = 500
AGAIN_AFTER = timedelta(seconds=20)
LONGEST_WAIT = timedelta(days=1)


class KnownAsOf(NamedTuple):
    """Upstream times as of which a row was known before it was compared; None: it was unknown.

    Attributes:
        fields_at: the oldest of the columns that differed, those alone that webhooks carry where there are any; the
            model's creation where none of them was known; the deletion of a tombstone that should live.
        core_at: the newest of the core's columns.
    """

    fields_at: datetime | None
    core_at: datetime | None


def known_as_of(before: KnownState, changed: Iterable[str], core_at: datetime | None) -> KnownAsOf:
    """As of when a row was known."""
    differing = list(changed)
    if before.deleted and "status" in differing:
        # Until the evidence of a deletion that did not happen, the row was right.
        return KnownAsOf(before.deletion_evidence_at, core_at)
    carried = [name for name in differing if name in CARRIED]
    times = [before.fields[name].at for name in carried or differing if name in before.fields]
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
    stale, censored = (longest_staleness(seen) if foreign else staleness(seen, None)) or (None, None)
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
        "stale_seconds": stale,
        "censored": censored,
    }


def deliveries_known_to(engine: Engine, inbox: Inbox, now: datetime | None = None) -> datetime:
    """Our time before which every delivery that was received is applied: now, or when the oldest that waits came.

    Raises:
        RedisUnavailable: nothing is known of the inbox.
    """
    # Before the inbox is read: what comes after that is younger.
    now = now or datetime.now(UTC)
    waiting = [inbox.oldest_received_at()]
    with transaction(engine) as connection:
        waiting.append(spool.oldest_received_at(connection))
    oldest = min((at for at in waiting if at is not None), default=now)
    # A delivery that only a person can remove must not keep all differences undecided.
    return max(min(oldest, now), now - LONGEST_WAIT)


def classify_differences(engine: Engine, tolerance: timedelta, known_to: datetime, seconds: float) -> bool:
    """Give differences their classes, as far as they can be known, and count the webhooks of the pulls.

    Each batch is a transaction of its own, so that others get their turn. `known_to` is as `deliveries_known_to`
    returns it. No second batch begins after `seconds`; a difference that stays undecided is not looked at again before
    `AGAIN_AFTER`.

    Returns:
        Whether none is left for now.
    """
    deadline, now = monotonic() + seconds, datetime.now(UTC)
    times = {"looked_before": now - AGAIN_AFTER, "late": known_to - LATE_AFTER, "lost": known_to - LOST_AFTER}
    above, pull_ids = 0, set[int]()
    while True:
        with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
            found = _classify_batch(connection, above, times, tolerance, known_to)
        pull_ids.update(one["pull_id"] for one in found if one["pull_id"] is not None)
        if not found or monotonic() >= deadline:
            break
        above = found[-1]["id"]
    with transaction(engine, WHOLE_TABLE_SECONDS) as connection:
        accuracy.count_for_pulls(connection, sorted(pull_ids))
        accuracy.settle_denied(connection)
    return not found


def _classify_batch(
    connection: Connection, above: int, times: Mapping[str, datetime], tolerance: timedelta, known_to: datetime
) -> list[dict[str, Any]]:
    """Classify the next few differences, and return them."""
    found = accuracy.undecided(connection, above, BATCH_SIZE, **times)
    events = _events(connection, [one["id"] for one in found], tolerance)
    accuracy.save(connection, [_verdict_row(one, events[one["id"]], known_to) for one in found], datetime.now(UTC))
    # To count a large pull takes long, so that comes last. Until then the pull is one that was not counted.
    accuracy.forget_counts(connection, sorted({one["pull_id"] for one in found if one["pull_id"] is not None}))
    return found


def _verdict_row(found: Mapping[str, Any], events: Sequence[ReceivedEvent], known_to: datetime) -> dict[str, Any]:
    difference = Difference(
        # A 404 changes no row by itself.
        found["changed"] or {"status": [None, DELETED]},
        found["checked_at"],
        found["last_agreed_at"],
        found["core_at"],
    )
    verdict = classify(difference, events, known_to)
    stale, censored = staleness(difference, verdict.event) or (None, None)
    return {
        "id": found["id"],
        "class": verdict.kind,
        "event_id": verdict.event and verdict.event.id,
        "final": verdict.final,
        "stale_seconds": stale,
        "censored": censored,
    }


def _events(connection: Connection, check_ids: list[int], tolerance: timedelta) -> dict[int, list[ReceivedEvent]]:
    """The events about the models of some differences, by the difference."""
    found: dict[int, list[ReceivedEvent]] = defaultdict(list)
    for row in accuracy.events_about(connection, check_ids, LOST_AFTER):
        observation = stored_event(row, tolerance).observation
        if observation is not None:
            values = {name: to_json(value) for name, value in observation.fields.items()}
            found[row["check_id"]].append(
                ReceivedEvent(
                    row["id"],
                    row["created_at"],
                    row["received_at"],
                    row["status"] == "applied",
                    values,
                    row["processed_at"],
                    max((row["signed_at"] or row["received_at"]) - row["received_at"], timedelta(0)),
                )
            )
    return found
