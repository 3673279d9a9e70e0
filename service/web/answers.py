"""The form that every error of ours has: the vendor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import jsonify

if TYPE_CHECKING:
    from flask import Response

CODES = {
    400: "INVALID_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


def error_answer(status: int, code: str, words: str) -> tuple[Response, int]:
    """An error body of ours: `success`, `error`, `code`, as the vendor's."""
    return jsonify(success=False, error=words, code=code), status
