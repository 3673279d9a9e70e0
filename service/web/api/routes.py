"""The routes of the API: the keys that may call them, and the views that handle them.

Why: `docs/decisions/0022-the-api-from-the-mirror.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, g, request
from structlog.contextvars import bind_contextvars, unbind_contextvars

from service.config.api_keys import Scope
from service.storage import database
from service.web.api.openapi import OpenApiEndpoint
from service.web.api.subscriptions import SubscriptionViews
from service.web.api.views import ModelViews

if TYPE_CHECKING:
    import redis

    from service.api.writes import UpstreamWriter
    from service.config import Settings
    from service.web.auth import ApiKeyAuth

ORGANIZATION = "/api/v2/organization"
PREFIX = f"{ORGANIZATION}/models"

# One process serves the endpoint too, on the same thread. So few reads run at a time; the others wait in a
# queue, where they cost nothing, and are refused after a moment.
READ_CONNECTIONS = 2
POOL_TIMEOUT_SECONDS = 2.0


def blueprints(
    settings: Settings, auth: ApiKeyAuth, client: redis.Redis, writer: UpstreamWriter | None
) -> tuple[Blueprint, Blueprint]:
    """Make two blueprints: the calls under `/api/v2`, and their OpenAPI document. Nothing is connected yet.

    `writer` is None where the process has no API key of the vendor's: calls that need the vendor are then refused.
    """
    url = settings.postgres_url
    read_engine = database.connect(url, pool_size=READ_CONNECTIONS, overflow=0, pool_timeout=POOL_TIMEOUT_SECONDS)
    api = Blueprint("api", __name__)
    api.before_request(lambda: _authorize(auth))
    api.teardown_request(lambda _error: unbind_contextvars("key"))
    calls = ModelViews(read_engine, writer, client, settings)
    api.get(ORGANIZATION)(calls.get_organization)
    api.get(PREFIX)(calls.list_models)
    api.post(PREFIX)(calls.create)
    api.get(f"{PREFIX}/<model_id>")(calls.get_model)
    api.delete(f"{PREFIX}/<model_id>")(calls.delete)
    engine = database.connect(url, pool_size=1, overflow=2, pool_timeout=POOL_TIMEOUT_SECONDS)
    SubscriptionViews(engine, settings).register(api)
    return api, OpenApiEndpoint(settings.public_url).blueprint()


def _authorize(auth: ApiKeyAuth) -> None:
    """Let a call in by its key; every line that is logged of the call names the key."""
    try:
        auth.require(Scope.READ if request.method in ("GET", "HEAD") else Scope.WRITE)
    finally:
        if "caller" in g:
            bind_contextvars(key=g.caller.name)
