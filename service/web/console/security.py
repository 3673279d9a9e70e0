"""Headers of the console's pages: what a browser may load, run and keep of them.

A page runs only scripts and styles that carry the nonce of its response; markup that got into a page carries none.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flask import g, request

if TYPE_CHECKING:
    from flask import Response

_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; connect-src 'self'"
)


def nonce() -> str:
    """The nonce of this response."""
    if "console_nonce" not in g:
        g.console_nonce = secrets.token_urlsafe(16)
    return str(g.console_nonce)


def add_page_headers(response: Response) -> Response:
    """Allow a page its own scripts and styles, and no cache to keep it; `response_headers` adds the rest."""
    if request.endpoint != "console.static_file":
        # Without a nonce it is no page: it may load nothing, as every other response.
        if "console_nonce" in g:
            response.headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce())
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Vary"] = "Cookie"
    # A page of another site that opened this one cannot reach it.
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
