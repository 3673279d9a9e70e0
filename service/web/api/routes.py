"""The API put together: who may call, what is called, and how every error of ours is said in the vendor's form."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

import structlog
from flask import Blueprint, Response, g, request
from structlog.contextvars import bind_contextvars, unbind_contextvars

from service.api.fresh_reads import FreshReadLimiter
from service.api.reads import MirrorReader, read_only_engine
from service.api.writes import UpstreamWriter
from service.broker import inbox
from service.broker.counters import Counters
from service.broker.inbox import StaleModels
from service.broker.jobs import JobQueue
from service.config.api_keys import Scope
from service.errors import (
    ApiRequestRejected,
    MirrorError,
    SchemaOutdated,
    Throttled,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from service.runtime import RESPONSE_TIMEOUT_SECONDS, RequestCounter
from service.storage import database
from service.upstream.budget import RequestBudget
from service.upstream.client import UpstreamClient
from service.web.api.openapi import OpenApiEndpoint
from service.web.api.views import JSON_CONTENT_TYPE, ModelViews
from service.web.errors import error_response

if TYPE_CHECKING:
    import redis

    from service.config import Settings
    from service.web.auth import ApiKeyAuth

log = structlog.get_logger(__name__)

PREFIX = "/api/v2/organization/models"

# One process serves the endpoint too, on the same thread. So few reads are in hand at a time; the others wait in line,
# where they cost nothing, and are sent away after a moment.
READ_CONNECTIONS = 2
POOL_TIMEOUT_SECONDS = 2.0
REDIS_TIMEOUT_SECONDS = 2.0
RETRY_AFTER_SECONDS = 5


def blueprints(settings: Settings, auth: ApiKeyAuth, client: redis.Redis) -> tuple[Blueprint, Blueprint]:
    """The calls under `/api/v2`, and what describes them under `/api`; nothing is connected yet.

    Args:
        settings: of this process.
        auth: lets requests in by their keys.
        client: Redis, for what web processes must know of each other.
    """
    url = settings.postgres_url
    reader = MirrorReader(read_only_engine(url, connections=READ_CONNECTIONS, patience=POOL_TIMEOUT_SECONDS))
    api = Blueprint("api", __name__)
    api.before_request(lambda: _authorize(auth))
    api.teardown_request(lambda _error: unbind_contextvars("key"))
    api.after_request(_forbid_caching)
    api.register_error_handler(MirrorError, _error_response)
    calls = ModelViews(reader, _writer(settings), FreshReadLimiter(client))
    api.get(PREFIX)(calls.list_models)
    api.post(PREFIX)(calls.create)
    api.get(f"{PREFIX}/<model_id>")(calls.get_model)
    api.delete(f"{PREFIX}/<model_id>")(calls.delete)
    return api, OpenApiEndpoint().blueprint()


def _writer(settings: Settings) -> UpstreamWriter | None:
    """What goes to the upstream; None without its key."""
    if settings.headshotpro_api_key is None:
        return None
    redis = inbox.connect(settings.redis, timeout=REDIS_TIMEOUT_SECONDS)
    request_counter = RequestCounter(Counters(redis))
    client = UpstreamClient(
        settings.headshotpro_api_url,
        settings.headshotpro_api_key,
        RequestBudget(redis, settings.rate_budget, settings.detail_budget),
        response_timeout=RESPONSE_TIMEOUT_SECONDS,
        proxy=settings.proxy_for(settings.headshotpro_api_url),
        observe=request_counter.observe,
        observe_wait=request_counter.observe_wait,
    )
    engine = database.connect(settings.postgres_url, pool_size=2, overflow=2, patience=POOL_TIMEOUT_SECONDS)
    return UpstreamWriter(engine, client, JobQueue(redis), StaleModels(redis))


def _authorize(auth: ApiKeyAuth) -> Response | None:
    """The refusal of a call, None where its key may do that; every line that is logged of the call names the key."""
    refusal = auth.reject_unauthorized(Scope.READ if request.method in ("GET", "HEAD") else Scope.WRITE)
    if "caller" in g:
        bind_contextvars(key=g.caller.name)
    return refusal


def _forbid_caching(response: Response) -> Response:
    """Answers hold people's addresses, some a login link: none may be kept by others, or shown without asking us."""
    response.headers["Cache-Control"] = "private, no-cache" if "ETag" in response.headers else "no-store"
    return response


def _error_response(error: MirrorError) -> Response:
    """An error of ours as an answer; what the vendor said is passed on as it came."""
    vendor_response = error.vendor_response if isinstance(error, UpstreamError) else None
    # A 401 is about the mirror's own key, not the caller's.
    if vendor_response is not None and vendor_response.status != 401:
        return Response(
            vendor_response.body,
            vendor_response.status,
            headers=dict(vendor_response.headers),
            content_type=JSON_CONTENT_TYPE,
        )
    status, code, message, retry_after = _translate(error)
    response, _ = error_response(status, code, message)
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status >= 500:
        log.warning("api.refused", status=status, code=code, reason=str(error))
    return response


def _translate(error: MirrorError) -> tuple[int, str, str, int | None]:
    """Status, code, words and seconds to wait of an error that is not the vendor's own."""
    if isinstance(error, ApiRequestRejected):
        return error.status, error.code, str(error), error.retry_after
    if isinstance(error, Throttled):
        wait = ceil((error.retry_at - datetime.now(UTC)).total_seconds())
        return 429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded", max(1, wait)
    if isinstance(error, UpstreamTimeout):
        return 504, "UPSTREAM_TIMEOUT", "The upstream did not answer in time: what it did is not known yet", None
    if isinstance(error, UpstreamError):
        return 502, "UPSTREAM_ERROR", "The upstream cannot be reached, or gave an answer that is none", None
    if isinstance(error, (Unavailable, SchemaOutdated)):
        return 503, "UNAVAILABLE", "A server of the mirror's cannot be reached: try again", RETRY_AFTER_SECONDS
    return 500, "ERROR", "The mirror failed", None
