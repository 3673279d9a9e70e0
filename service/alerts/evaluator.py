"""The alert evaluator: reads the facts, opens and resolves alerts, and releases notifications about them.

All but `inbox_stalled` needs Postgres alone. Any number of processes may run one; one evaluates at a time, and a second
evaluation of the same facts changes nothing. An alert and its notification are written in one transaction.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from service.alerts.facts import AlertFacts, MeasuredError, ModelFact
from service.alerts.kinds import AlertCause
from service.alerts.liveness import LivenessTracker
from service.alerts.notification import MAX_IDS_SHOWN
from service.alerts.rules import (
    DEVELOPMENT_SHARE,
    MOVING,
    TOO_MANY_FAILURES,
    AlertLimits,
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
# Where an evaluation takes long, they are less frequent: together they take a tenth of the time at most.
EVALUATION_TIME_SHARE = 0.1
# But one that a server held up for minutes must not put off the next by ten times that.
MAX_EVALUATION_PAUSE_SECONDS = 30.0
# After a gap longer than this, what happened meanwhile is not known.
MAX_GAP_SECONDS = 20.0
# A notification waits for others, and is sent within 30 s: the rest is for the next tick and a slow evaluation.
NOTIFICATION_WINDOW_SECONDS = 26.0


class AlertEvaluator:
    """The alert evaluator of one process.

    Args:
        inbox: reads the state of the inbox from Redis; None while Redis is unavailable.
    """

    def __init__(
        self, engine: Engine, settings: Settings, inbox: Callable[[], InboxLiveness | None] = lambda: None
    ) -> None:
        self._engine = engine
        self._limits = AlertLimits.from_settings(settings)
        self._reminder = settings.alert_reminder_seconds
        self._read_inbox = inbox
        self._inbox: InboxLiveness | None = None
        self._liveness = LivenessTracker()
        self._next_evaluation = 0.0

    def tick(self) -> None:
        """Evaluate if it is time, and release the notifications whose window has passed, right after an evaluation.

        Raises:
            PostgresUnavailable: Postgres is unavailable.
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
            seen = evaluate(connection, self._limits, self._liveness, self._inbox)
            if window_passed:
                notifications.release(connection)
            if self._reminder:
                notifications.release_reminders(connection, self._reminder)
        # Nothing is logged before the commit: a rollback undoes it.
        for event, fields in seen:
            log.warning(event, **fields)
        now = monotonic()
        pause = min((now - began) / EVALUATION_TIME_SHARE, MAX_EVALUATION_PAUSE_SECONDS)
        self._next_evaluation = now + max(EVALUATION_SECONDS, pause)


def evaluate(
    connection: Connection, limits: AlertLimits, liveness: LivenessTracker, inbox: InboxLiveness | None
) -> list[tuple[str, dict[str, Any]]]:
    """Open an alert for each cause that has none, resolve those whose cause has ended, write the first summary once.

    Returns:
        What happened, to be logged: names of events and their fields.
    """
    state = alert_facts.evaluator_state(connection)
    first_summary_is_due = state.pop("first_summary_is_due")
    open_alerts = alerts.list_open(connection)
    ids = {AlertCause(row["kind"], row["model_id"]): row["id"] for row in open_alerts}
    mirror = alert_facts.mirror(connection, limits.missed_within.total_seconds())
    signs_of_life = liveness.update(state["now"], mirror.pop("worker_seen_at"), mirror.pop("spooled_since"), inbox)
    facts = _facts(connection, frozenset(ids), limits, {**state, **mirror, **signs_of_life})
    holding = causes(facts, limits)
    new = [(cause.kind, cause.model_id, detail) for cause, detail in holding.items() if cause not in ids]
    opened = alerts.open_new(connection, new) if new else []
    ended = [number for cause, number in ids.items() if cause not in holding]
    resolved = alerts.resolve(connection, ended) if ended else []
    seen = [("alert.opened", row) for row in opened] + [("alert.resolved", row) for row in resolved]
    if first_summary_is_due:
        seen.append(("alerts.past", _summarize_past(connection, *preexisting(facts, limits))))
    return seen


def _facts(
    connection: Connection, open_causes: frozenset[AlertCause], limits: AlertLimits, others: Mapping[str, Any]
) -> AlertFacts:
    """The facts, of which `others` were read before."""
    stuck_after = limits.stuck_after.total_seconds()
    models = alert_facts.models(connection, MOVING, stuck_after, DEVELOPMENT_SHARE, TOO_MANY_FAILURES)
    return AlertFacts(
        models=tuple(ModelFact(**row) for row in models),
        measured=tuple(MeasuredError(**row) for row in alert_facts.measured_errors(connection)),
        open=open_causes,
        **others,
    )


def _summarize_past(connection: Connection, failed: Sequence[str], stuck: Sequence[str]) -> dict[str, Any]:
    """Write the notification about models that failed or were stuck before the mirror began; none without any."""
    detail = {
        "failed": len(failed),
        "failed_ids": failed[:MAX_IDS_SHOWN],
        "stuck": len(stuck),
        "stuck_ids": stuck[:MAX_IDS_SHOWN],
    }
    notifications.record_past_summary(connection, detail if failed or stuck else None)
    return {"failed": len(failed), "stuck": len(stuck)}
