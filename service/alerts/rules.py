"""The rules of alerts: from facts about the mirror to the causes that hold. Pure.

A cause that holds and has no open alert opens one; an open alert whose cause no longer holds is resolved. Two rules
depend on whether their alert is open: a failed model is well when it is active again, not while the vendor tries it
once more, and missing webhooks are back when one comes, not when nothing happens.

The past: the status in which the first pull found a model has no known age. Such a model opens no alert until its
status changes; `preexisting` lists these models, for one summary.

Why failing pulls are read from pulls: `docs/decisions/0038-failing-pulls-from-pulls.md`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.alerts import kinds
from service.alerts.kinds import AlertCause
from service.model_fields import FAILED, STATUSES
from service.process_identity import ALIVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.alerts.facts import AlertFacts, MeasuredError, ModelFact
    from service.config import Settings
    from service.storage.pulls import FailingPull

# A kind of process is missing when none of it sent a heartbeat for this long.
MISSING_AFTER = timedelta(seconds=ALIVE_SECONDS)
# An alert opens after this; a restart takes less.
WORKER_MISSING_AFTER = timedelta(seconds=60)
# Events wait for longer than this, and none was applied meanwhile.
STALLED_AFTER = timedelta(seconds=60)

# The statuses in which the vendor works, and a model may stay for good.
MOVING = tuple(status.name for status in STATUSES if status.moving)
# A model that failed is not well yet while it is in one of these, tried once more.
NOT_RECOVERED = tuple(status.name for status in STATUSES if status.hot)
# The vendor takes an hour for a model, and three minutes for a development one.
DEVELOPMENT_SHARE = 1 / 16
TOO_MANY_FAILURES = 3
STALE_INTERVALS = 3
# Missed webhooks are counted over this long, or over three pull intervals where those are longer.
MISSED_WEBHOOKS_WITHIN = timedelta(hours=1)
# Within a minute.
TOO_MANY_REFUSED_SIGNATURES = 10
# Tries of a pull in a row that the upstream, or Postgres by a lock or a slow statement, ended; a single one may be a
# moment's trouble.
LASTING_FAILURES = 2
_REFUSED_KEY = re.compile(r"the upstream refused: (401|403)\b")
# One pull that finds what no webhook announced is a lost webhook or two.
PULLS_THAT_MISS = 2
# An alert by one window alone would be late (a long one), or open for each small burst (a short one).
# Source: Google, "The Site Reliability Workbook" (2018), chapter 5, multiwindow alerts.
LONG_WINDOW, SHORT_WINDOW = "24h", "1h"
# An hour with less than three full pulls may never have the two that a lower bound needs.
MAX_HOURLY_INTERVAL = timedelta(minutes=20)
LONG_WINDOW_OF_RARE_PULLS, SHORT_WINDOW_OF_RARE_PULLS = "28d", "24h"

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """How long things may last before they alert.

    Attributes:
        failed_grace: how long a model may stay failed: the vendor restarts it.
        stuck_after: how long it may stay in a status of `MOVING`.
        pull_interval: between the starts of two full pulls.
    """

    failed_grace: timedelta
    stuck_after: timedelta
    pull_interval: timedelta

    @classmethod
    def from_settings(cls, settings: Settings) -> AlertLimits:
        """The limits of a deployment."""
        return cls(
            failed_grace=timedelta(seconds=settings.failed_grace_seconds),
            stuck_after=timedelta(seconds=settings.stuck_after_seconds),
            pull_interval=timedelta(seconds=settings.pull_interval_seconds),
        )

    @property
    def missed_within(self) -> timedelta:
        """The time over which missed webhooks are counted."""
        return max(MISSED_WEBHOOKS_WITHIN, STALE_INTERVALS * self.pull_interval)

    def allowed_in_moving_status(self, *, is_development: bool) -> timedelta:
        """How long a model may stay in a status of `MOVING`."""
        return self.stuck_after * DEVELOPMENT_SHARE if is_development else self.stuck_after


CauseDetails = dict[AlertCause, dict[str, Any]]


def causes(facts: AlertFacts, limits: AlertLimits) -> CauseDetails:
    """Every cause that holds, with its details: values that JSON can hold, and no personal data."""
    found: CauseDetails = {}
    for model in facts.models:
        found.update(_model_causes(model, facts, limits))
    found.update(_mirror_causes(facts, limits))
    return found


def preexisting(facts: AlertFacts, limits: AlertLimits) -> tuple[list[str], list[str]]:
    """The models that were failed, and those that may have been stuck, before the mirror began."""
    failed = [model for model in facts.models if model.status == FAILED and _is_preexisting(model, facts, timedelta(0))]
    moving = [
        model
        for model in facts.models
        if model.status in MOVING
        and _is_preexisting(model, facts, limits.allowed_in_moving_status(is_development=model.is_development))
    ]
    return [model.model_id for model in failed], [model.model_id for model in moving]


def _is_preexisting(model: ModelFact, facts: AlertFacts, allowed: timedelta) -> bool:
    """Whether it may have been so for longer than allowed before the mirror began: a younger model cannot."""
    return model.found_at_first_check and (model.created_at or _LONG_AGO) < facts.observing_since - allowed


def _model_causes(
    model: ModelFact, facts: AlertFacts, limits: AlertLimits
) -> Iterator[tuple[AlertCause, dict[str, Any]]]:
    lasted = facts.now - model.since
    failed = AlertCause(kinds.MODEL_FAILED, model.model_id)
    if failed in facts.open or model.failures >= TOO_MANY_FAILURES:
        holds = model.status in NOT_RECOVERED
    else:
        holds = (
            model.status == FAILED and lasted >= limits.failed_grace and not _is_preexisting(model, facts, timedelta(0))
        )
    if holds:
        yield failed, {"since": model.since.isoformat(), "failures": model.failures}
    stuck = AlertCause(kinds.MODEL_STUCK, model.model_id)
    allowed = limits.allowed_in_moving_status(is_development=model.is_development)
    if (
        model.status in MOVING
        and lasted >= allowed
        and (stuck in facts.open or not _is_preexisting(model, facts, allowed))
    ):
        yield stuck, {"since": model.since.isoformat(), "status": model.status}


def _mirror_causes(facts: AlertFacts, limits: AlertLimits) -> Iterator[tuple[AlertCause, dict[str, Any]]]:
    yield from _pull_causes(facts, limits)
    if _webhooks_are_missing(facts):
        yield AlertCause(kinds.WEBHOOKS_MISSING), {"missed": facts.missed, "events": facts.events}
    if facts.dead_events:
        yield AlertCause(kinds.EVENTS_DEAD), {"events": facts.dead_events, "event_ids": list(facts.dead_event_ids)}
    if facts.refused_at and facts.refused_at > (facts.accepted_at or _LONG_AGO):
        yield AlertCause(kinds.API_REJECTED), {"status": facts.refused_status}
    if _signatures_are_refused(facts):
        counted = {"within_a_minute": facts.refused_signatures, "accepted": facts.accepted_signatures}
        yield AlertCause(kinds.SIGNATURES_REFUSED), counted
    if facts.skewed_at and facts.skewed_at > (facts.agreed_at or _LONG_AGO):
        yield AlertCause(kinds.CLOCK_SKEW), {"seconds": facts.skew_seconds}
    inaccurate = AlertCause(kinds.MIRROR_INACCURATE)
    if detail := _inaccuracy(facts.measured, limits.pull_interval):
        yield inaccurate, detail
    elif inaccurate in facts.open and not facts.measured:
        # Nothing is known while no worker computes the figures.
        yield inaccurate, {}
    if facts.failing_subscriptions:
        yield AlertCause(kinds.SUBSCRIPTION_FAILING), {"subscriptions": list(facts.failing_subscriptions)}
    yield from _worker_causes(facts)


def _pull_causes(facts: AlertFacts, limits: AlertLimits) -> Iterator[tuple[AlertCause, dict[str, Any]]]:
    complete_at = facts.last_complete_at
    if facts.now - (complete_at or facts.observing_since) >= STALE_INTERVALS * limits.pull_interval:
        yield AlertCause(kinds.PULL_STALE), {"last_complete_at": complete_at and complete_at.isoformat()}
    # A refused key has an alert of its own.
    failing = [pull for pull in facts.failing_pulls if fails_for_long(pull) and refused_status(pull) is None]
    for pull in failing[:1]:
        yield AlertCause(kinds.PULL_FAILING), {"pull_kind": pull.kind, "error": pull.error}
    if facts.held_pulls:
        yield AlertCause(kinds.TOMBSTONES_HELD), {"pulls": list(facts.held_pulls)}
    if facts.foreign_pulls:
        yield (
            AlertCause(kinds.ORGANIZATION_CHANGED),
            {"pulls": list(facts.foreign_pulls), "reason": facts.foreign_reason},
        )
    if facts.set_aside:
        yield AlertCause(kinds.RECORDS_SET_ASIDE), {"rows": facts.set_aside, "models": list(facts.set_aside_models)}


def fails_for_long(pull: FailingPull) -> bool:
    """Whether a pull has failed, or several of its tries in a row were ended."""
    return pull.failures is None or pull.failures >= LASTING_FAILURES


def refused_status(pull: FailingPull) -> str | None:
    """The HTTP status with which the upstream refused the key of a pull; None where it failed for another reason."""
    refused = _REFUSED_KEY.match(pull.error)
    return refused[1] if refused else None


def _worker_causes(facts: AlertFacts) -> Iterator[tuple[AlertCause, dict[str, Any]]]:
    """Only a heartbeat ends a missing worker, only an event that is applied a stalled inbox: a restart ends neither."""
    missing, stalled = AlertCause(kinds.WORKER_MISSING), AlertCause(kinds.INBOX_STALLED)
    if missing in facts.open:
        holds = facts.now - (facts.worker_seen_at or _LONG_AGO) >= MISSING_AFTER
    else:
        holds = facts.now - (facts.worker_missed_since or facts.now) >= WORKER_MISSING_AFTER
    if holds:
        yield missing, {"seen_at": facts.worker_seen_at and facts.worker_seen_at.isoformat()}
    if _inbox_is_stalled(facts):
        yield stalled, {"waiting_since": facts.waiting_since and facts.waiting_since.isoformat()}


def _inbox_is_stalled(facts: AlertFacts) -> bool:
    is_open = AlertCause(kinds.INBOX_STALLED) in facts.open
    if facts.applied_at is None:
        # Nothing is known while Redis is unavailable.
        return is_open
    waited = facts.waiting_since is not None and facts.now - facts.waiting_since >= STALLED_AFTER
    return waited and not facts.applying and (is_open or facts.now - facts.applied_at >= STALLED_AFTER)


def _signatures_are_refused(facts: AlertFacts) -> bool:
    """Deliveries keep coming with wrong signatures; once said, only a delivery that is accepted takes it back."""
    if facts.refused_signatures >= TOO_MANY_REFUSED_SIGNATURES:
        return True
    return AlertCause(kinds.SIGNATURES_REFUSED) in facts.open and not facts.accepted_since_refusal


def _webhooks_are_missing(facts: AlertFacts) -> bool:
    """Pulls keep finding changes without a webhook; once the alert is open, only a webhook resolves it."""
    if AlertCause(kinds.WEBHOOKS_MISSING) in facts.open and not facts.event_since_opened:
        return True
    return facts.pulls_that_missed >= PULLS_THAT_MISS and facts.missed > facts.events


def _inaccuracy(measured: Sequence[MeasuredError], pull_interval: timedelta) -> dict[str, Any] | None:
    """The details of an alert about the mirror's own error; None where none holds."""
    by_period = {one.period: one for one in measured}
    if (day := by_period.get(LONG_WINDOW)) and day.unexplained:
        return day._asdict()
    windows = (LONG_WINDOW, SHORT_WINDOW)
    if pull_interval > MAX_HOURLY_INTERVAL:
        windows = (LONG_WINDOW_OF_RARE_PULLS, SHORT_WINDOW_OF_RARE_PULLS)
    long, short = (by_period.get(window) for window in windows)
    return long._asdict() if long and short and _exceeds(long) and _exceeds(short) else None


def _exceeds(measured: MeasuredError) -> bool:
    return measured.lower_95 is not None and measured.lower_95 > measured.slo_target
