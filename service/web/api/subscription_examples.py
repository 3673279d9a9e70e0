"""Examples of the calls about subscriptions."""

from __future__ import annotations

from service.web.api.example import Example

_SUBSCRIPTION = {
    "name": "orders",
    "url": "https://orders.internal/hooks",
    "state": "active",
    "reason": None,
    "statuses": ["active", "failed"],
    "teams": None,
    "withPersonalData": False,
    "batch": None,
    "cursor": 4711,
    "waiting": 0,
    "unread": 0,
    "delivered": 1234,
    "deliveredAt": "2026-03-04T12:00:01.250Z",
    "failedAt": None,
    "failedStatus": None,
    "failedReason": None,
    "createdAt": "2026-03-01T09:00:00.000Z",
}
_SHOWN_ONCE = "whsec_…"
_ONE = {"success": True, "subscription": _SUBSCRIPTION}
_WITH_DETAIL = {
    **_ONE,
    "deliveries": [
        {
            "changeId": 4711,
            "modelId": "507f1f77bcf86cd799439011",
            "attempts": 1,
            "firstFailedAt": "2026-03-04T12:00:02.250Z",
            "dueAt": "2026-03-04T12:00:03.250Z",
            "status": 503,
            "error": "the receiver responded 503",
        }
    ],
    "recentRequests": [
        {
            "at": "2026-03-04T12:00:02.210Z",
            "changeId": 4711,
            "changes": 1,
            "attempt": 1,
            "status": 503,
            "ms": 38.5,
            "error": "the receiver responded 503",
        }
    ],
}
_WITH_SECRET = {**_ONE, "secret": _SHOWN_ONCE}

# By the operation's id.
SUBSCRIPTION_EXAMPLES = {
    "listSubscriptions": Example("/subscriptions", {"success": True, "subscriptions": [_SUBSCRIPTION]}),
    "addSubscription": Example(
        "/subscriptions",
        _WITH_SECRET,
        body={"name": "orders", "url": "https://orders.internal/hooks", "statuses": ["active", "failed"]},
    ),
    "getSubscription": Example("/subscriptions/orders", _WITH_DETAIL),
    "removeSubscription": Example("/subscriptions/orders", {"success": True, "message": "Subscription orders removed"}),
    "pauseSubscription": Example("/subscriptions/orders/pause", _ONE),
    "resumeSubscription": Example("/subscriptions/orders/resume", _ONE),
    "replaySubscription": Example("/subscriptions/orders/replay", _ONE, body={"since": "4711"}),
    "rotateSubscription": Example("/subscriptions/orders/rotate", _WITH_SECRET),
    "testSubscription": Example(
        "/subscriptions/orders/test", {"success": True, "taken": True, "status": 204, "error": None}
    ),
}
