"""Every page of the console, for the tests that open each: a new page needs a line here."""

from __future__ import annotations

from urllib.parse import quote

from tests.support.console_world import ATTACKS, EVENT, HOSTILE_EVENT, HOSTILE_MODEL, MODEL

# Name to path; what they show comes from `tests.support.console_world`.
PAGES = {
    "overview": "/console/",
    "models": "/console/models",
    "models-found": f"/console/models?q={quote(ATTACKS[0])}&status=failed&development=no&age=30d",
    "model": f"/console/models/{MODEL}",
    "model-of-the-past": f"/console/models/{quote(HOSTILE_MODEL, safe='')}?at=2020-01-01T00:00",
    "changes": "/console/changes",
    "changes-found": f"/console/changes?model={quote(HOSTILE_MODEL, safe='')}&source=pull&status=failed",
    "events": "/console/events",
    "events-found": f"/console/events?q={quote(ATTACKS[0])}&status=applied",
    "event": f"/console/events/{EVENT}",
    "event-that-died": f"/console/events/{quote(HOSTILE_EVENT, safe='')}",
    "pulls": "/console/pulls",
    "pull-that-is-held": "/console/pulls/3",
    "pull-that-failed": "/console/pulls/2",
    "set-aside": "/console/set-aside",
    "accuracy": "/console/accuracy",
    "accuracy-of-a-verdict": "/console/accuracy?verdict=in_flight",
    "alerts": "/console/alerts",
    "alerts-of-a-kind": "/console/alerts?kind=model_failed",
    "alert": "/console/alerts/1",
    "alert-that-was-resolved": "/console/alerts/3",
    "subscriptions": "/console/subscriptions",
    "subscription": "/console/subscriptions/orders",
    "subscription-that-is-disabled": "/console/subscriptions/billing",
    "audit": "/console/audit",
    "act": "/console/audit/1",
    "task": "/console/tasks/1",
    "settings": "/console/settings",
    "doctor": "/console/settings?doctor=1",
}
