"""The calls over HTTP: parameters in, documents out. `service.api` defines their meaning."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from flask import Response, g, request

from service import __version__
from service.api import parameters
from service.api.idempotency import IdempotentCreates
from service.api.organization import read_organization
from service.api.reads import read_feed, reading
from service.api.schemas import (
    MAX_PAGE_SIZE,
    FeedPaginationSchema,
    ListQuery,
    ModelFeedBody,
    ModelListBody,
    PaginationSchema,
    SingleModelBody,
    SingleQuery,
    detailed_model_schema,
    model_schema,
)
from service.broker.client import clear_flag, raise_flag
from service.config.api_keys import Scope
from service.errors import ApiError, MirrorError, RedisUnavailable
from service.model_fields import DELETED
from service.storage import accuracy_figures, api_queries
from service.storage.audit import API, Actor
from service.storage.idempotency import IdempotencyKey
from service.upstream.fields import is_valid_model_id
from service.upstream.json_text import REPLACEMENT
from service.web.errors import JSON_CONTENT_TYPE
from service.web.request_body import check_body_headers, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import redis
    from sqlalchemy import Engine

    from service.api.writes import RelayedResponse, UpstreamWriter
    from service.config import Settings

# Our own names: a cursor into the feed, and how wrong the mirror was.
CURSOR_HEADER = "X-Mirror-Cursor"
ACCURACY_HEADER = "X-Mirror-Accuracy"
MAX_BODY_BYTES = 64 * 1024
MAX_IDEMPOTENCY_KEY_LENGTH = 255
# A model is read fresh from the upstream at most once in this time.
FRESH_MS = 5_000


class ModelViews:
    """The calls; there is no writer where this process has no API key."""

    def __init__(self, engine: Engine, writer: UpstreamWriter | None, client: redis.Redis, settings: Settings) -> None:
        self._engine = engine
        self._writer = writer
        self._client = client
        self._settings = settings

    def get_organization(self) -> Response:
        """The organization of the mirror's key, from the upstream or from a response of the last minute."""
        upstream = self._require_writer().client
        body = read_organization(upstream, self._client, self._settings.api_key)
        return Response(body, content_type=JSON_CONTENT_TYPE)

    def list_models(self) -> Response:
        """A page of the list, or of the feed where `updatedSince` is given."""
        query = parameters.read(request.args, ListQuery)
        since = parameters.since_of(query)
        if request.if_none_match:
            # Without a change since, the page is the same, and need not be read.
            with reading(self._engine) as connection:
                unchanged = _etag(api_queries.newest_change(connection))
            # A proxy that compresses makes a tag weak (RFC 9110, 13.1.2: they are compared as such).
            if unchanged and request.if_none_match.contains_weak(unchanged):
                response = Response(status=304)
                response.set_etag(unchanged)
                return response
        return self._list(query) if since is None else self._feed(query, since)

    def _list(self, query: ListQuery) -> Response:
        limit, wanted = min(query.limit, MAX_PAGE_SIZE), parameters.filter_of(query)
        with reading(self._engine) as connection:
            total = api_queries.total(connection, wanted)
            rows = api_queries.page(connection, wanted, limit, query.offset, total)
            newest_change_id, accuracy = api_queries.newest_change(connection), accuracy_figures.measured(connection)
        more = query.offset + len(rows) < total
        pagination = PaginationSchema(total=total, limit=limit, offset=query.offset, has_more=more)
        document = ModelListBody(models=[model_schema(row) for row in rows], pagination=pagination)
        response = _page(document, rows, newest_change_id, newest_change_id or 0)
        if accuracy is not None:
            response.headers[ACCURACY_HEADER] = _accuracy(accuracy)
        return response

    def _feed(self, query: ListQuery, since: int | datetime) -> Response:
        limit = min(query.limit, MAX_PAGE_SIZE)
        with reading(self._engine) as connection:
            changes = read_feed(connection, since, parameters.filter_of(query), limit, query.offset)
        pagination = FeedPaginationSchema(
            limit=limit, offset=query.offset, has_more=changes.more, cursor=changes.cursor
        )
        document = ModelFeedBody(models=[model_schema(row) for row in changes.rows], pagination=pagination)
        return _page(document, changes.rows, changes.newest_change_id, changes.cursor)

    def get_model(self, model_id: str) -> Response:
        """One model, from the mirror or, with `fresh`, from the upstream."""
        query = parameters.read(request.args, SingleQuery)
        _require_id(model_id)
        if query.fresh:
            fresh = self._read_fresh(model_id)
            if fresh is not None:
                return fresh
        with reading(self._engine) as connection:
            row = api_queries.one(connection, model_id)
        if row is None or row["status"] == DELETED:
            raise ApiError(404, "NOT_FOUND", "Model not found")
        response = json_response(SingleModelBody(model=detailed_model_schema(row)))
        _set_age_header(response, [row])
        response.add_etag()
        response.make_conditional(request)
        return response

    def _read_fresh(self, model_id: str) -> Response | None:
        """One model from the upstream, which costs a request; None where it was read less than five seconds ago."""
        if g.caller.scope < Scope.WRITE:
            raise ApiError(403, "FORBIDDEN", "This API key may only read: fresh=true needs one that may write")
        writer = self._require_writer()
        # Of all web processes together.
        key = f"headshotpro:fresh:{model_id}"
        if not raise_flag(self._client, key, FRESH_MS):
            return None
        try:
            return _relayed(writer.read_fresh(model_id))
        except MirrorError:
            # The mirror is no fresher than before: allow the next read.
            with suppress(RedisUnavailable):
                clear_flag(self._client, key)
            raise

    def create(self) -> Response:
        """Make a model; with an `Idempotency-Key`, once."""
        writer = self._require_writer()
        check_body_headers(request, MAX_BODY_BYTES)
        wanted = parameters.create_model_body(read_body(request, MAX_BODY_BYTES))
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return _relayed(writer.create(wanted, caller()))
        if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH or not (key.isascii() and key.isprintable()):
            message = (
                f"Invalid Idempotency-Key: 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable ASCII characters are needed"
            )
            raise ApiError(400, "INVALID_REQUEST", message)
        place = IdempotencyKey(_caller_digest(), key)
        return _relayed(IdempotentCreates(writer).create(wanted, place, caller()))

    def delete(self, model_id: str) -> Response:
        _require_id(model_id)
        return _relayed(self._require_writer().delete(model_id, caller()))

    def _require_writer(self) -> UpstreamWriter:
        if self._writer is None:
            message = "HEADSHOTPRO_API_KEY is missing: this mirror cannot ask the upstream"
            raise ApiError(503, "UNAVAILABLE", message)
        return self._writer


def _require_id(model_id: str) -> None:
    """Refuse what no model can have for an id, before a server is called for it.

    Raises:
        ApiError: 404, as the vendor has it for any id that it does not know.
    """
    if not is_valid_model_id(model_id) or not model_id.isprintable() or REPLACEMENT in model_id:
        raise ApiError(404, "NOT_FOUND", "Model not found")


def caller() -> Actor:
    """The caller of this request, for the audit log."""
    return Actor(g.caller.name, API, request.remote_addr)


def _caller_digest() -> str:
    """Digest of the caller's API key, which was let in: it distinguishes callers without keeping their keys."""
    _, _, token = request.headers["Authorization"].partition(" ")
    return hashlib.sha256(token.strip().encode("latin-1", "replace")).hexdigest()


def _page(
    document: ModelListBody | ModelFeedBody, rows: list[Mapping[str, Any]], newest_change_id: int | None, cursor: int
) -> Response:
    response = json_response(document)
    response.headers[CURSOR_HEADER] = str(cursor)
    _set_age_header(response, rows)
    if tag := _etag(newest_change_id):
        response.set_etag(tag)
    return response


def _accuracy(measured: Mapping[str, Any]) -> str:
    at = measured["last_check_at"].astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    # Rounded up: a bound that is rounded down says too much.
    upper = min(1.0, math.ceil(measured["upper_95"] * 1e6) / 1e6)
    return f"rate={measured['rate']:.6f}; upper95={upper:.6f}; period={measured['period']}; at={at}"


def json_response(document: Any) -> Response:
    """A document as the body of a success."""
    return Response(msgspec.json.encode(document), content_type=JSON_CONTENT_TYPE)


def _relayed(relayed: RelayedResponse) -> Response:
    """The upstream's own response."""
    response = Response(relayed.body, relayed.status, content_type=JSON_CONTENT_TYPE)
    if relayed.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _etag(newest_change_id: int | None) -> str | None:
    """The ETag of all pages of one moment; another version of this code may write pages differently."""
    return None if newest_change_id is None else f"{newest_change_id}-{__version__}"


def _set_age_header(response: Response, rows: list[Mapping[str, Any]]) -> None:
    """`Age` (RFC 9111): seconds since the least recently observed model of the response was last observed."""
    seen = [row["seen_at"] for row in rows if row["seen_at"] is not None]
    if seen:
        age = datetime.fromtimestamp(time.time(), UTC) - min(seen)
        response.headers["Age"] = str(max(0, round(age.total_seconds())))
