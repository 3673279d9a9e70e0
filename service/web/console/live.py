"""Pages that keep themselves up to date: a page that would look the same again is a 304.

A browser asks every few seconds (`static/console.js`), with the tag of what it shows. The tag is a digest of the page,
without the nonce, which differs in each response.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from flask import request

from service.web.console import security

if TYPE_CHECKING:
    from flask import Response


def is_tagged(response: Response) -> bool:
    """Whether it is a page, which has a tag."""
    return request.method == "GET" and response.status_code == 200 and response.mimetype == "text/html"


def tag_of(response: Response) -> str:
    """The tag of a page."""
    content = response.get_data().replace(security.nonce().encode(), b"")
    return hashlib.sha256(content).hexdigest()[:32]


def add_tag(response: Response) -> Response:
    """Tag a page by its content, and leave out its body where the browser has it."""
    if is_tagged(response):
        # A part that was kept has its tag.
        if "ETag" not in response.headers:
            response.set_etag(tag_of(response), weak=True)
        # `make_conditional` writes the date first, which costs more than all else here; gunicorn writes its own.
        if request.if_none_match.contains_raw(response.headers["ETag"]):
            response.status_code = 304
    return response
