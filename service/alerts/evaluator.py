"""The watch: looks at the facts, opens and resolves alerts, and hands out what people have to be told.

All of it but `inbox_stalled` rests on Postgres alone. Any number of processes may watch; one looks at a time, and a
second look changes nothing. What it writes in one transaction, alert and notice, stays or goes together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from service.alerts.liveness import Signs
from service.alerts.notification import NAMED
from service.alerts.rules import (
    DEVELOPMENT_SHARE,
    MOVING,
    STALE_INTERVALS,
    TOO_MANY_FAILURES,
    Cause,
    Facts,
    Limits,
    ModelFact,
    causes,
    past,
)
from service.storage import alert_facts, alerts, notifications
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.alerts.liveness import InboxSigns
    from service.config import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
# A mirror on which a look takes long is looked at more seldom: the watch takes a tenth of the time at most.
LOOK_SHARE = 0.1
# Where a look comes later than this, what happened meanwhile is not known.
LONGEST_GAP_SECONDS = 20.0
# A notice waits for others of its time, and leaves within 30 s: some are for the next tick, a slow look, and the way.
WINDOW_SECONDS = 26.0
# Missed webhooks are looked for over this long, or three pull intervals where those are longer.
MISSED_SECONDS = 3600.0
TIDY_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a watch goes by.

    Attributes:
        limits: how long things may last.
        reminder: seconds between reminders; 0: none.
        missed: seconds over which missed webhooks are looked for.
    """

    limits: Limits
    reminder: float
    missed: float

    @classmethod
    def of(cls, settings: Settings) -> Plan:
        """As the settings say."""
        limits = Limits(
            failed_grace=timedelta(seconds=settings.failed_grace_seconds),
            stuck_after=timedelta(seconds=settings.stuck_after_seconds),
            pull_interval=timedelta(seconds=settings.pull_interval_seconds),
        )
        missed = max(MISSED_SECONDS, STALE_INTERVALS * settings.pull_interval_seconds)
        return cls(limits, settings.alert_reminder_seconds, missed)


class Watch:
    """One process's watch.

    Args:
        engine: the mirror's Postgres.
        plan: what it goes by.
        inbox: reads what Redis says of the inbox.
    """

    def __init__(self, engine: Engine, plan: Plan, inbox: Callable[[], InboxSigns | None] = lambda: None) -> None:
        self._engine = engine
        self._plan = plan
        self._read_inbox = inbox
        self._inbox: InboxSigns | None = None
        self._signs = Signs()
        self._next_look = 0.0
        self._next_tidy = 0.0

    def tick(self) -> None:
        """Look if it is time to, and hand out what has waited for its window; a look comes before each handing out.

        Raises:
            StorageUnavailable: Postgres is gone.
        """
        try:
            self._look_in_turn()
        except Exception:
            self._signs.forget()
            raise

    def _look_in_turn(self) -> None:
        began = monotonic()
        if began >= self._next_look:
            # Outside of the transaction: a Redis that hangs must not hold locks.
            self._inbox = self._read_inbox()
        if self._next_look and monotonic() - self._next_look > LONGEST_GAP_SECONDS:
            self._signs.forget()
        with transaction(self._engine, WHOLE_TABLE_SECONDS) as connection:
            is_time = notifications.is_time(connection, WINDOW_SECONDS)
            if (not is_time and monotonic() < self._next_look) or not alerts.take_turn(connection):
                return
            seen = look(connection, self._plan, self._signs, self._inbox)
            if is_time:
                notifications.release(connection)
            if self._plan.reminder:
                notifications.remind(connection, self._plan.reminder)
            if monotonic() >= self._next_tidy:
                notifications.tidy(connection)
                self._next_tidy = monotonic() + TIDY_SECONDS
        # What was rolled back did not happen, so nothing is logged before this.
        for event, fields in seen:
            log.warning(event, **fields)
        now = monotonic()
        self._next_look = now + max(LOOK_SECONDS, (now - began) / LOOK_SHARE)


def look(
    connection: Connection, plan: Plan, signs: Signs, inbox: InboxSigns | None
) -> list[tuple[str, dict[str, Any]]]:
    """Open an alert for each cause that has none, resolve those whose cause has ended, sum up the past once.

    Args:
        connection: a transaction that has the turn.
        plan: what to go by.
        signs: what the looks before saw.
        inbox: what Redis says of the inbox.

    Returns:
        What happened, to be logged: names of events and their fields.
    """
    watch = alert_facts.watch(connection)
    open_alerts = alerts.open_ones(connection)
    ids = {Cause(row["kind"], row["model_id"]): row["id"] for row in open_alerts}
    mirror = alert_facts.mirror(connection, plan.missed)
    seen_of_life = signs.note(watch["now"], mirror.pop("worker_seen_at"), mirror.pop("spooled_since"), inbox)
    facts = _facts(connection, watch, frozenset(ids), plan, {**mirror, **seen_of_life})
    holding = causes(facts, plan.limits)
    new = [(cause.kind, cause.model_id, detail) for cause, detail in holding.items() if cause not in ids]
    opened = alerts.open_(connection, new) if new else []
    ended = [number for cause, number in ids.items() if cause not in holding]
    resolved = alerts.resolve(connection, ended) if ended else []
    seen = [("alert.opened", row) for row in opened] + [("alert.resolved", row) for row in resolved]
    if watch["past_until"] is not None and watch["past_summed_at"] is None:
        seen.append(("alerts.past", _sum_up(connection, *past(facts, plan.limits))))
    return seen


def _facts(
    connection: Connection,
    watch: Mapping[str, Any],
    open_causes: frozenset[Cause],
    plan: Plan,
    mirror: Mapping[str, Any],
) -> Facts:
    youngest_stuck = plan.limits.stuck_after.total_seconds() * DEVELOPMENT_SHARE
    models = alert_facts.models(connection, MOVING, youngest_stuck, TOO_MANY_FAILURES)
    return Facts(
        now=watch["now"],
        looking_since=watch["looking_since"],
        models=tuple(ModelFact(**row) for row in models),
        refused_at=watch["key_refused_at"],
        refused_status=watch["key_refused_status"],
        accepted_at=watch["key_accepted_at"],
        skewed_at=watch["clock_skewed_at"],
        skew_seconds=watch["clock_skew_seconds"],
        agreed_at=watch["clock_agreed_at"],
        open=open_causes,
        **mirror,
    )


def _sum_up(connection: Connection, failed: Sequence[str], stuck: Sequence[str]) -> dict[str, Any]:
    """Write the one notice about what was so before the mirror looked; none where all was well."""
    detail = {
        "failed": len(failed), "failed_ids": failed[:NAMED], "stuck": len(stuck), "stuck_ids": stuck[:NAMED],
    }  # fmt: skip
    notifications.sum_up_past(connection, detail if failed or stuck else None)
    return {"failed": len(failed), "stuck": len(stuck)}
