"""Scripts and styles of the console: files of the package, under a URL that changes with their content."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import Response, send_from_directory, url_for
from werkzeug.exceptions import NotFound

FOLDER = Path(__file__).parent / "static"
# The URL has a digest of the content, so a file never changes under it.
CACHE_CONTROL = "public, max-age=31536000, immutable"


@cache
def digest(name: str) -> str:
    """The digest of a file in its URL."""
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]


def static_url(name: str) -> str:
    """The URL of a file below `static/`."""
    return url_for("console.static_file", version=digest(name), name=name)


def static_file(version: str, name: str) -> Response:
    """A file, for anybody.

    Raises:
        NotFound: there is none, or another version of it.
    """
    response = send_from_directory(FOLDER, name)
    if version != digest(name):
        raise NotFound("This page belongs to another version of the console: reload it.")
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response
