"""An example of each call for the API's page and its OpenAPI document: a request that works, and its response."""

from __future__ import annotations

from service.web.api.example import Example
from service.web.api.subscription_examples import SUBSCRIPTION_EXAMPLES

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
    **SUBSCRIPTION_EXAMPLES,
}
