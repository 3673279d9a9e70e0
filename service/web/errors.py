"""The form that every error of ours has, the vendor's: for Flask's views, and for the endpoint, which is none."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import jsonify

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask import Response

ERROR_CODES = {
    400: "INVALID_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


def error_response(status: int, code: str, message: str) -> tuple[Response, int]:
    """An error body of ours: `success`, `error`, `code`, as the vendor's."""
    return jsonify(success=False, error=message, code=code), status


class WsgiResponse(NamedTuple):
    """What the endpoint answers.

    Attributes:
        status: of HTTP.
        document: the body.
        headers: that belong to the status.
    """

    status: int
    document: dict[str, Any]
    headers: dict[str, str]

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer a request as WSGI has it (PEP 3333)."""
        body = json.dumps(self.document).encode() + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers.items(),
        ]
        start_response(f"{self.status} {HTTPStatus(self.status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def wsgi_error(status: int, code: str, message: str, **headers: str) -> WsgiResponse:
    """The same error body as an answer of the endpoint's."""
    return WsgiResponse(status, {"success": False, "error": message, "code": code}, headers)
