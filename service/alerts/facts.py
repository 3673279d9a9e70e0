"""The facts about the mirror and its models that the rules of alerts judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from service.alerts.kinds import AlertCause
    from service.storage.pulls import FailingPull


@dataclass(frozen=True, slots=True)
class ModelFact:
    """A model that may be a reason for an alert.

    Attributes:
        created_at: when it was created, where that is known.
        since: since when it is known to be in this status.
        found_at_first_check: the first pull found it so, or it became so before the mirror began.
        failures: how often it was seen to fail within a day.
    """

    model_id: str
    status: str | None
    is_development: bool
    created_at: datetime | None
    since: datetime
    found_at_first_check: bool
    failures: int


class MeasuredError(NamedTuple):
    """The error that was measured in a period, of the fields of the list.

    Attributes:
        period: such as `24h`.
        lower_95: lower 95 % bound of the share of wrong rows; None where nothing was compared.
        slo_target: highest acceptable share.
        unexplained: differences that are our own fault.
    """

    period: str
    lower_95: float | None
    slo_target: float
    unexplained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts:
    """The facts for the rules, as of one moment of Postgres' clock.

    Attributes:
        now: that moment.
        observing_since: when the mirror began to read the upstream.
        models: those that may be a reason, and those with an open alert.
        last_complete_at: when the last complete full pull ended; None before the first.
        pulls_that_missed: pulls of the last hours that found changes which no webhook announced.
        missed: how many changes that were.
        events: webhook events that came in the same hours.
        event_since_opened: whether an event came since the open alert about missing ones.
        failing_pulls: the pulls that fail now.
        dead_events: events that could not be applied.
        dead_event_ids: ids of the first few of them.
        held_pulls: numbers of the pulls whose suspects a person has to decide.
        foreign_pulls: numbers of the pulls that are held because the API key belongs to another organization.
        foreign_reason: which organizations these are.
        set_aside: records and fields that could not be used and are not resolved.
        set_aside_models: ids of the first few of their models; a record whose id is unreadable has none.
        measured: the mirror's own error, by period; none where the figures are old.
        failing_subscriptions: names of the subscriptions that are failing or disabled.
        refused_at: when the upstream last refused our key; None where it never did.
        refused_status: with which HTTP status.
        accepted_at: when it last accepted our key, as far as that was stored.
        worker_seen_at: the newest heartbeat of a worker that has a row.
        worker_missed_since: the same, or when the evaluator began, where that is later.
        waiting_since: when the oldest event that waits was accepted; None where none waits.
        applied_at: when an event was last seen to be applied, or when the evaluator began; None while Redis,
            which holds the events, is unavailable.
        applying: whether events were applied since the last evaluation.
        refused_signatures: deliveries with a wrong signature within the last minute.
        accepted_signatures: deliveries that were accepted within the same minute.
        accepted_since_refusal: whether a delivery was accepted after the newest of these, as far as that was seen.
        skewed_at: when the upstream's clock was last seen to be off; None where it never was.
        skew_seconds: how far it was ahead of the local clock then.
        agreed_at: when the two agreed after that, as far as that was stored.
        open: the causes of the open alerts.
    """

    now: datetime
    observing_since: datetime
    models: tuple[ModelFact, ...] = ()
    last_complete_at: datetime | None = None
    pulls_that_missed: int = 0
    missed: int = 0
    events: int = 0
    event_since_opened: bool = False
    failing_pulls: tuple[FailingPull, ...] = ()
    dead_events: int = 0
    dead_event_ids: tuple[str, ...] = ()
    held_pulls: tuple[int, ...] = ()
    foreign_pulls: tuple[int, ...] = ()
    foreign_reason: str | None = None
    set_aside: int = 0
    set_aside_models: tuple[str, ...] = ()
    measured: tuple[MeasuredError, ...] = ()
    failing_subscriptions: tuple[str, ...] = ()
    refused_at: datetime | None = None
    refused_status: int | None = None
    accepted_at: datetime | None = None
    worker_seen_at: datetime | None = None
    worker_missed_since: datetime | None = None
    waiting_since: datetime | None = None
    applied_at: datetime | None = None
    applying: bool = False
    refused_signatures: int = 0
    accepted_signatures: int = 0
    accepted_since_refusal: bool = False
    skewed_at: datetime | None = None
    skew_seconds: float | None = None
    agreed_at: datetime | None = None
    open: frozenset[AlertCause] = field(default_factory=frozenset)
