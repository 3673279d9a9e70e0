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
def digests() -> dict[str, str]:
    """The digest of each file below `static/` in its URL, by its name there."""
    return {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in FOLDER.rglob("*")
        if path.is_file()
    }


def static_url(name: str) -> str:
    """The URL of a file below `static/`."""
    return url_for("console.static_file", version=digests()[name], name=name)


def static_file(version: str, name: str) -> Response:
    """A file, without login.

    Raises:
        NotFound: there is none, or another version of it.
    """
    # Checked before the name reaches the file system: no login is needed, so a client may send any name.
    if digests().get(name) != version:
        raise NotFound("This page belongs to another version of the console: reload it.")
    response = send_from_directory(FOLDER, name)
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response
