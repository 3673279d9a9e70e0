"""The API put together: who may call, what is called, and how every error of ours is said in the vendor's form."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

import structlog
from flask import Blueprint, Response, g, request
from structlog.contextvars import bind_contextvars, unbind_contextvars

from service.api.fresh_reads import FreshReads
from service.api.reads import Reader, reading_engine
from service.api.writes import Writer
from service.broker import inbox
from service.broker.counters import Counters
from service.broker.inbox import StaleModels
from service.broker.jobs import JobQueue
from service.config.api_keys import Scope
from service.errors import (
    CallRefused,
    MirrorError,
    SchemaOutdated,
    Throttled,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from service.runtime import RESPONSE_TIMEOUT_SECONDS, Tally
from service.storage import database
from service.upstream.budget import Budget
from service.upstream.client import UpstreamClient
from service.web.api.openapi import Description
from service.web.api.views import JSON, Calls
from service.web.errors import error_answer

if TYPE_CHECKING:
    import redis

    from service.config import Settings
    from service.web.auth import Admission

log = structlog.get_logger(__name__)

PREFIX = "/api/v2/organization/models"

# One process serves the door too, on the same thread. So few reads are in hand at a time; the others wait in line,
# where they cost nothing, and are sent away after a moment.
CONNECTIONS = 2
PATIENCE_SECONDS = 2.0
REDIS_TIMEOUT_SECONDS = 2.0
RETRY_AFTER_SECONDS = 5


def blueprints(settings: Settings, admission: Admission, client: redis.Redis) -> tuple[Blueprint, Blueprint]:
    """The calls under `/api/v2`, and what describes them under `/api`; nothing is connected yet.

    Args:
        settings: of this process.
        admission: lets requests in by their keys.
        client: Redis, for what web processes must know of each other.
    """
    url = settings.postgres_url
    reader = Reader(reading_engine(url, connections=CONNECTIONS, patience=PATIENCE_SECONDS))
    api = Blueprint("api", __name__)
    api.before_request(lambda: _refused(admission))
    api.teardown_request(lambda _error: unbind_contextvars("key"))
    api.after_request(_forbid_caching)
    api.register_error_handler(MirrorError, _refuse)
    calls = Calls(reader, _writer(settings), FreshReads(client))
    api.get(PREFIX)(calls.list_models)
    api.post(PREFIX)(calls.create)
    api.get(f"{PREFIX}/<model_id>")(calls.get_model)
    api.delete(f"{PREFIX}/<model_id>")(calls.delete)
    return api, Description().blueprint()


def _writer(settings: Settings) -> Writer | None:
    """What goes to the upstream; None without its key."""
    if settings.headshotpro_api_key is None:
        return None
    redis = inbox.connect(settings.redis, timeout=REDIS_TIMEOUT_SECONDS)
    tally = Tally(Counters(redis))
    client = UpstreamClient(
        settings.headshotpro_api_url,
        settings.headshotpro_api_key,
        Budget(redis, settings.rate_budget, settings.detail_budget),
        response_timeout=RESPONSE_TIMEOUT_SECONDS,
        proxy=settings.proxy_for(settings.headshotpro_api_url),
        observe=tally.observe,
        observe_wait=tally.observe_wait,
    )
    engine = database.connect(settings.postgres_url, pool_size=2, overflow=2, patience=PATIENCE_SECONDS)
    return Writer(engine, client, JobQueue(redis), StaleModels(redis))


def _refused(admission: Admission) -> Response | None:
    """The refusal of a call, None where its key may do that; every line that is logged of the call names the key."""
    refusal = admission.refuse(Scope.READ if request.method in ("GET", "HEAD") else Scope.WRITE)
    if "caller" in g:
        bind_contextvars(key=g.caller.name)
    return refusal


def _forbid_caching(response: Response) -> Response:
    """Answers hold people's addresses, some a login link: none may be kept by others, or shown without asking us."""
    response.headers["Cache-Control"] = "private, no-cache" if "ETag" in response.headers else "no-store"
    return response


def _refuse(error: MirrorError) -> Response:
    """An error of ours as an answer; what the vendor said is passed on as it came."""
    said = error.said if isinstance(error, UpstreamError) else None
    # A 401 is about the mirror's own key, not the caller's.
    if said is not None and said.status != 401:
        return Response(said.body, said.status, headers=dict(said.headers), content_type=JSON)
    status, code, words, retry_after = _meaning(error)
    response, _ = error_answer(status, code, words)
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status >= 500:
        log.warning("api.refused", status=status, code=code, reason=str(error))
    return response


def _meaning(error: MirrorError) -> tuple[int, str, str, int | None]:
    """Status, code, words and seconds to wait of an error that is not the vendor's own."""
    if isinstance(error, CallRefused):
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
