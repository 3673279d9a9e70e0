"""Every error as a response in the vendor's form: `success`, `error`, `code`."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

import structlog
from flask import Response
from werkzeug.exceptions import HTTPException

from service.errors import (
    ApiError,
    MirrorError,
    SchemaOutdated,
    Throttled,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from flask import Flask

log = structlog.get_logger(__name__)

# After this a server that was unavailable may be there again.
RETRY_AFTER_SECONDS = 5

JSON_CONTENT_TYPE = "application/json; charset=utf-8"

_HTTP_CODES = {
    400: "INVALID_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


def register_error_handlers(app: Flask) -> None:
    """Let an application respond to errors in this form, wherever a view raises them."""
    app.register_error_handler(MirrorError, _mirror_error)
    app.register_error_handler(HTTPException, lambda error: error_response(from_http_exception(error)))


def error_response(error: ApiError) -> Response:
    """A refusal as a response."""
    return Response(error.body(), error.status, headers=dict(error.headers), content_type="application/json")


def from_http_exception(error: HTTPException, label: str = "") -> ApiError:
    """An error of Flask's in our own format; see `ApiError` for its label."""
    status = error.code or 500
    # Headers that belong to the status, such as Allow on a 405.
    headers = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
    message = error.description or error.name
    return ApiError(status, _HTTP_CODES.get(status, "ERROR"), message, headers=headers, label=label)


def _mirror_error(error: MirrorError) -> Response:
    """An error that a view raised; the vendor's own error response is passed on as it came."""
    vendor_response = error.vendor_response if isinstance(error, UpstreamError) else None
    # A 401 is about the mirror's own key, not the caller's.
    if vendor_response is not None and vendor_response.status != 401:
        return Response(
            vendor_response.body,
            vendor_response.status,
            headers=dict(vendor_response.headers),
            content_type=JSON_CONTENT_TYPE,
        )
    refusal = _translate(error)
    if refusal.status >= 500:
        log.warning("api.refused", status=refusal.status, code=refusal.code, reason=str(error))
    return error_response(refusal)


def _translate(error: MirrorError) -> ApiError:
    """The response to a caller for an error that is not the vendor's own."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Throttled):
        wait = max(1, ceil((error.retry_at - datetime.now(UTC)).total_seconds()))
        return ApiError(429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded", headers={"Retry-After": str(wait)})
    if isinstance(error, UpstreamTimeout):
        message = "The upstream did not respond in time: the mirror does not know yet what it did"
        return ApiError(504, "UPSTREAM_TIMEOUT", message)
    if isinstance(error, UpstreamError):
        return ApiError(502, "UPSTREAM_ERROR", "The upstream cannot be reached, or its response could not be read")
    if isinstance(error, (Unavailable, SchemaOutdated)):
        message = "A server of the mirror's cannot be reached: try again"
        return ApiError(503, "UNAVAILABLE", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return ApiError(500, "ERROR", "The mirror failed")
