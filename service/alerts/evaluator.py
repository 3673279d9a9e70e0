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

from service.alerts.liveness import LivenessTracker
from service.alerts.notification import MAX_IDS_SHOWN
from service.alerts.rules import (
    DEVELOPMENT_SHARE,
    MOVING,
    STALE_INTERVALS,
    TOO_MANY_FAILURES,
    AlertCause,
    AlertFacts,
    AlertLimits,
    ModelFact,
    causes,
    preexisting,
)
from service.storage import alert_facts, alerts, notifications
from service.storage.database import WHOLE_TABLE_SECONDS, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from service.alerts.liveness import InboxLiveness
    from service.config import Settings

log = structlog.get_logger(__name__)

EVALUATION_SECONDS = 5.0
# A mirror on which a look takes long is looked at more seldom: the watch takes a tenth of the time at most.
EVALUATION_TIME_SHARE = 0.1
# Where a look comes later than this, what happened meanwhile is not known.
MAX_GAP_SECONDS = 20.0
# A notice waits for others of its time, and leaves within 30 s: some are for the next tick, a slow look, and the way.
NOTIFICATION_WINDOW_SECONDS = 26.0
# Missed webhooks are looked for over this long, or three pull intervals where those are longer.
MISSED_WEBHOOKS_SECONDS = 3600.0
CLEANUP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class EvaluatorConfig:
    """What a watch goes by.

    Attributes:
        limits: how long things may last.
        reminder: seconds between reminders; 0: none.
        missed: seconds over which missed webhooks are looked for.
    """

    limits: AlertLimits
    reminder: float
    missed: float

    @classmethod
    def from_settings(cls, settings: Settings) -> EvaluatorConfig:
        """As the settings say."""
        limits = AlertLimits(
            failed_grace=timedelta(seconds=settings.failed_grace_seconds),
            stuck_after=timedelta(seconds=settings.stuck_after_seconds),
            pull_interval=timedelta(seconds=settings.pull_interval_seconds),
        )
        missed = max(MISSED_WEBHOOKS_SECONDS, STALE_INTERVALS * settings.pull_interval_seconds)
        return cls(limits, settings.alert_reminder_seconds, missed)


class AlertEvaluator:
    """One process's watch.

    Args:
        engine: the mirror's Postgres.
        plan: what it goes by.
        inbox: reads what Redis says of the inbox.
    """

    def __init__(
        self, engine: Engine, plan: EvaluatorConfig, inbox: Callable[[], InboxLiveness | None] = lambda: None
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._read_inbox = inbox
        self._inbox: InboxLiveness | None = None
        self._liveness = LivenessTracker()
        self._next_evaluation = 0.0
        self._next_cleanup = 0.0

    def tick(self) -> None:
        """Look if it is time to, and hand out what has waited for its window; a look comes before each handing out.

        Raises:
            PostgresUnavailable: Postgres is gone.
        """
        try:
            self._evaluate_if_due()
        except Exception:
            self._liveness.reset()
            raise

    def _evaluate_if_due(self) -> None:
        began = monotonic()
        if began >= self._next_evaluation:
            # Outside of the transaction: a Redis that hangs must not hold locks.
            self._inbox = self._read_inbox()
        if self._next_evaluation and monotonic() - self._next_evaluation > MAX_GAP_SECONDS:
            self._liveness.reset()
        with transaction(self._engine, WHOLE_TABLE_SECONDS) as connection:
            window_passed = notifications.window_passed(connection, NOTIFICATION_WINDOW_SECONDS)
            if (not window_passed and monotonic() < self._next_evaluation) or not alerts.try_lock_evaluator(connection):
                return
            seen = evaluate(connection, self._plan, self._liveness, self._inbox)
            if window_passed:
                notifications.release(connection)
            if self._plan.reminder:
                notifications.release_reminders(connection, self._plan.reminder)
            if monotonic() >= self._next_cleanup:
                notifications.delete_old(connection)
                self._next_cleanup = monotonic() + CLEANUP_SECONDS
        # What was rolled back did not happen, so nothing is logged before this.
        for event, fields in seen:
            log.warning(event, **fields)
        now = monotonic()
        self._next_evaluation = now + max(EVALUATION_SECONDS, (now - began) / EVALUATION_TIME_SHARE)


def evaluate(
    connection: Connection, plan: EvaluatorConfig, signs: LivenessTracker, inbox: InboxLiveness | None
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
    evaluator_state = alert_facts.evaluator_state(connection)
    open_alerts = alerts.list_open(connection)
    ids = {AlertCause(row["kind"], row["model_id"]): row["id"] for row in open_alerts}
    mirror = alert_facts.mirror(connection, plan.missed)
    liveness = signs.update(evaluator_state["now"], mirror.pop("worker_seen_at"), mirror.pop("spooled_since"), inbox)
    facts = _facts(connection, evaluator_state, frozenset(ids), plan, {**mirror, **liveness})
    holding = causes(facts, plan.limits)
    new = [(cause.kind, cause.model_id, detail) for cause, detail in holding.items() if cause not in ids]
    opened = alerts.open_new(connection, new) if new else []
    ended = [number for cause, number in ids.items() if cause not in holding]
    resolved = alerts.resolve(connection, ended) if ended else []
    seen = [("alert.opened", row) for row in opened] + [("alert.resolved", row) for row in resolved]
    if evaluator_state["first_pull_finished_at"] is not None and evaluator_state["first_summary_at"] is None:
        seen.append(("alerts.past", _summarize_past(connection, *preexisting(facts, plan.limits))))
    return seen


def _facts(
    connection: Connection,
    evaluator_state: Mapping[str, Any],
    open_causes: frozenset[AlertCause],
    plan: EvaluatorConfig,
    mirror: Mapping[str, Any],
) -> AlertFacts:
    youngest_stuck = plan.limits.stuck_after.total_seconds() * DEVELOPMENT_SHARE
    models = alert_facts.models(connection, MOVING, youngest_stuck, TOO_MANY_FAILURES)
    return AlertFacts(
        now=evaluator_state["now"],
        observing_since=evaluator_state["observing_since"],
        models=tuple(ModelFact(**row) for row in models),
        refused_at=evaluator_state["key_refused_at"],
        refused_status=evaluator_state["key_refused_status"],
        accepted_at=evaluator_state["key_accepted_at"],
        skewed_at=evaluator_state["clock_skewed_at"],
        skew_seconds=evaluator_state["clock_skew_seconds"],
        agreed_at=evaluator_state["clock_agreed_at"],
        open=open_causes,
        **mirror,
    )


def _summarize_past(connection: Connection, failed: Sequence[str], stuck: Sequence[str]) -> dict[str, Any]:
    """Write the one notice about what was so before the mirror looked; none where all was well."""
    detail = {
        "failed": len(failed),
        "failed_ids": failed[:MAX_IDS_SHOWN],
        "stuck": len(stuck),
        "stuck_ids": stuck[:MAX_IDS_SHOWN],
    }
    notifications.record_past_summary(connection, detail if failed or stuck else None)
    return {"failed": len(failed), "stuck": len(stuck)}
