"""Replay: events that are kept are merged once more, by the same rules, so that no replay can do harm."""

from __future__ import annotations

import hmac
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from service.broker.inbox import MAX_READ_BYTES
from service.errors import MirrorError, PostgresUnavailable, PreviewOutdated
from service.mirror.batches import BATCH_SIZE
from service.mirror.drain import DrainResult, apply_one_by_one, merge_events
from service.mirror.preview import preview
from service.mirror.webhooks import Event, error_reason, row, stored_event
from service.storage import audit, console_events, events
from service.storage.console_events import EventPlace
from service.storage.database import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

    from service.mirror.merging_batch import BatchResult
    from service.storage.console_events import EventSearch


ACTION = "events.replay"


class ReplayResult(NamedTuple):
    """The result of replaying one event.

    `before` and `after` are its statuses, `erased` where its body is no longer kept; `error` is why it is dead.
    """

    id: str
    before: str
    after: str
    error: str | None


def replay(
    engine: Engine, search: EventSearch, tolerance: timedelta, ids: Sequence[str] | None = None
) -> Iterator[ReplayResult]:
    """Merge kept events again and say what became of each; one that cannot be applied is dead still, alone.

    With `ids`, of those events alone.

    Raises:
        PostgresUnavailable: the rest was not replayed; what was replayed already does no harm a second time.
    """
    place: EventPlace | None = None
    if ids is None:
        search = search.received_so_far()
    while True:
        with transaction(engine) as connection:
            kept = console_events.next_batch(connection, search, place, BATCH_SIZE, MAX_READ_BYTES, ids=ids)
        if not kept:
            return
        yield from replay_batch(engine, kept, tolerance)
        place = EventPlace(kept[-1]["received_at"], kept[-1]["id"])


def replay_as_previewed(engine: Engine, event_id: str, tolerance: timedelta, token: str, actor: audit.Actor) -> int:
    """Merge one kept event again, if that does what a person confirmed; its row in the audit log is written with it.

    `token` is that of the preview that the person confirmed.

    Returns:
        The act's row in the audit log.

    Raises:
        PreviewOutdated: something else would happen by now.
        MirrorError: there is no such event, its body is no longer kept, or Postgres refuses what it reports.
        PostgresUnavailable: nothing was applied.
    """
    try:
        with transaction(engine, by_key=True) as connection:
            return _apply_as_previewed(connection, event_id, tolerance, token, actor)
    except MirrorError:
        raise
    except Exception as error:
        # Its message may hold values.
        raise MirrorError(error_reason(error)) from error


def _apply_as_previewed(
    connection: Connection, event_id: str, tolerance: timedelta, token: str, actor: audit.Actor
) -> int:
    kept = events.one(connection, event_id)
    if kept is None:
        raise MirrorError(f"there is no event {event_id} any more")
    foreseen = preview(connection, kept, tolerance, locks=True)
    if not hmac.compare_digest(foreseen.token.encode(), token.encode()):
        raise PreviewOutdated(
            "the model or the event has changed since this page was made; it shows what would happen now"
        )
    if not foreseen.is_possible:
        raise MirrorError(foreseen.reason)
    event = stored_event(kept, tolerance)
    merged = _merge_again(frozenset([event_id] if kept["status"] == "applied" else []), connection, [event])
    detail = {"before": kept["status"], "after": event.status}
    if merged.last_change_id:
        detail["change"] = merged.last_change_id
    return audit.record(connection, audit.Act(actor, ACTION, event_id, detail))


def replay_batch(engine: Engine, kept: Sequence[Mapping[str, Any]], tolerance: timedelta) -> Iterator[ReplayResult]:
    """Merge rows of `webhook_events` again, in one transaction where none of them fails.

    Raises:
        PostgresUnavailable: some were not replayed.
    """
    whole = [one for one in kept if one["payload"] is not None]
    merge = partial(_merge_again, frozenset(one["id"] for one in whole if one["status"] == "applied"))
    batch = [stored_event(one, tolerance) for one in whole]
    try:
        with transaction(engine, by_key=True) as connection:
            merge(connection, batch)
    except Exception as error:
        batch = [stored_event(one, tolerance) for one in whole]
        if apply_one_by_one(engine, batch, merge, error).left:
            raise PostgresUnavailable(
                "a lock, or a slow server, is in the way of some events: replay them again"
            ) from error
    found = {event.event_id: event for event in batch}
    for one in kept:
        event = found.get(one["id"])
        after, why_dead = (event.status, event.error) if event else ("erased", None)
        yield ReplayResult(one["id"], one["status"], after, why_dead)


def _merge_again(applied: frozenset[str], connection: Connection, batch: Sequence[Event]) -> DrainResult:
    return merge_events(connection, [batch], partial(_record_again, applied, connection))


def _record_again(
    applied: frozenset[str], connection: Connection, _result: BatchResult, batch: Sequence[Event]
) -> None:
    """Write what became of the events now; one that was applied before stays so, though it is older than the row."""
    for event in batch:
        if event.status == "stale" and event.event_id in applied:
            event.status = "applied"
    events.update_replayed(connection, [row(event) for event in batch])
