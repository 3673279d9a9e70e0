"""The JSON body of a Flask request, whichever view reads it. `service.web.bodies` bounds its memory and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException

from service.errors import ApiError
from service.web.errors import from_http_exception

if TYPE_CHECKING:
    from flask import Request


def check_body_headers(request: Request, max_bytes: int) -> None:
    """Check what the headers alone can show of a body, before it takes memory.

    Raises:
        ApiError: 413 if it is announced with more bytes than this; 415 if it is not JSON (no content type passes).
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    media_type = request.mimetype
    if media_type not in ("application/json", "") and not media_type.endswith("+json"):
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json", label="media_type")


def read_body(request: Request, max_bytes: int) -> bytes:
    """The raw body.

    Raises:
        ApiError: 413 if it has more bytes than this; 400 or 408 if it does not arrive whole and in time.
    """
    try:
        # A chunked body has no length beforehand: read one byte more than is allowed, and no further.
        body = request.stream.read(max_bytes + 1)
    except HTTPException as error:
        raise from_http_exception(error, label="unreadable") from None
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "PAYLOAD_TOO_LARGE", f"a body has {max_bytes} bytes at most", label="too_large")
