"""The kinds of alerts, and the cause of one."""

from __future__ import annotations

from typing import NamedTuple

MODEL_FAILED = "model_failed"
MODEL_STUCK = "model_stuck"
PULL_STALE = "pull_stale"
PULL_FAILING = "pull_failing"
WEBHOOKS_MISSING = "webhooks_missing"
EVENTS_DEAD = "events_dead"
TOMBSTONES_HELD = "tombstones_held"
ORGANIZATION_CHANGED = "organization_changed"
API_REJECTED = "api_rejected"
SIGNATURES_REFUSED = "signatures_refused"
CLOCK_SKEW = "clock_skew"
WORKER_MISSING = "worker_missing"
INBOX_STALLED = "inbox_stalled"
RECORDS_SET_ASIDE = "records_set_aside"
MIRROR_INACCURATE = "mirror_inaccurate"
SUBSCRIPTION_FAILING = "subscription_failing"
MODEL_KINDS = (MODEL_FAILED, MODEL_STUCK)
KINDS = (
    *MODEL_KINDS, PULL_STALE, PULL_FAILING, WEBHOOKS_MISSING, EVENTS_DEAD, TOMBSTONES_HELD, ORGANIZATION_CHANGED,
    API_REJECTED, SIGNATURES_REFUSED, WORKER_MISSING, INBOX_STALLED, RECORDS_SET_ASIDE, CLOCK_SKEW,
    MIRROR_INACCURATE, SUBSCRIPTION_FAILING,
)  # fmt: skip


class AlertCause(NamedTuple):
    """Why an alert is open: its kind, and the model it is about, if it is about one."""

    kind: str
    model_id: str | None = None
