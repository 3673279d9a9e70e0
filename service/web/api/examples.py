"""An example of each call for the API's page and its OpenAPI document: a request that works, and its response."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Example(NamedTuple):
    """A request, its path below the base URL, its headers beside the key, and the document of its response."""

    path: str
    response: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}

    @property
    def response_text(self) -> str:
        """The document in lines, its fields in their order."""
        return json.dumps(self.response, indent=2, ensure_ascii=False)

    def curl(self, method: str, base_url: str) -> str:
        """The command that sends it, with the key in `$KEY`."""
        lines = [f'curl -s "{base_url}{self.path}"', '-H "Authorization: Bearer $KEY"']
        if method != "get":
            lines[0] = lines[0].replace("curl -s", f"curl -s -X {method.upper()}")
        lines += [f'-H "{name}: {value}"' for name, value in self.headers.items()]
        if self.body is not None:
            lines += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(self.body))}"]
        return " \\\n  ".join(lines)


_MODEL = {
    "id": "507f1f77bcf86cd799439011",
    "uid": "anon_abc123",
    "email": "john@example.com",
    "title": "John Doe",
    "status": "active",
    "teamId": "team_xyz789",
    "teamName": "Marketing",
    "isDevelopment": False,
    "createdAt": "2024-01-15T10:30:00.000Z",
    "finishedAt": "2024-01-15T11:45:00.000Z",
}
_LINK = "https://app.headshotpro.com/auth/signed?token=…"

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
EXAMPLES = {
    "getOrganization": Example(
        "/organization",
        {
            "success": True,
            "organization": {
                "uid": "org_abc123",
                "name": "Initech Ltd",
                "website": "https://initech.example",
                "teams": [{"name": "Marketing", "id": "team_xyz789"}],
            },
        },
    ),
    "listModels": Example(
        "/organization/models?status=active&limit=25",
        {
            "success": True,
            "models": [_MODEL],
            "pagination": {"total": 150, "limit": 25, "offset": 0, "hasMore": True},
        },
    ),
    "createModel": Example(
        "/organization/models",
        {
            "success": True,
            "modelId": "507f1f77bcf86cd799439011",
            "status": "onboarding",
            "signedUrl": _LINK,
        },
        body={"email": "user@example.com", "teamId": "team_xyz789", "isDevelopment": True},
        headers={"Idempotency-Key": "invite-user-1"},
    ),
    "getModel": Example(
        "/organization/models/507f1f77bcf86cd799439011",
        {"success": True, "model": {**_MODEL, "photoCount": 40, "favoritePhotoId": "photo_123"}},
    ),
    "deleteModel": Example(
        "/organization/models/507f1f77bcf86cd799439011",
        {"success": True, "message": "Model deleted successfully", "modelId": "507f1f77bcf86cd799439011"},
    ),
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
