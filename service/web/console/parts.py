"""What open pages ask for again and again: the content of a page, made once for all who would see the same.

A script asks with the header `Console-Part`, whose value is the last message that it got of a stream. The response is
the page's `main` element, which holds nothing of one session: a part with a token of its forms is not kept.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from flask import g, make_response, request
from werkzeug.exceptions import ServiceUnavailable

from service.web.console.limits import WAIT_SECONDS
from service.web.errors import RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from flask import Response

    from service.web.console.sessions import Role

HEADER = "Console-Part"
# A part that is older is made again. One that was made for another message is another part: it may lack a row, as each
# process reads what is new for itself.
KEPT_SECONDS = 1.0
MAX_PARTS = 64


def is_wanted() -> bool:
    """Whether this request asks for a part."""
    return request.method == "GET" and HEADER in request.headers


class _Part:
    """One part: `body` was begun at `at`; one request at a time makes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.body: bytes | None = None
        self.at = 0.0


class Parts:
    """The newest parts of a process."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, Role, str], _Part] = {}

    def find(self, role: Role) -> Response | None:
        """Before a request works: the part that it asks for; None: this request makes the next one.

        Raises:
            ServiceUnavailable: another request takes too long to make it.
        """
        key = (request.full_path, role, request.headers[HEADER])
        part = self._parts.setdefault(key, _Part())
        if len(self._parts) > MAX_PARTS:
            self._parts.pop(next(iter(self._parts)), None)
        if not part.lock.acquire(timeout=WAIT_SECONDS):
            raise ServiceUnavailable("This page takes too long: try again.", retry_after=RETRY_AFTER_SECONDS)
        if part.body is not None and monotonic() - part.at < KEPT_SECONDS:
            part.lock.release()
            return make_response(part.body)
        part.body, part.at = None, monotonic()
        g.console_part = part
        return None

    def keep(self, response: Response) -> Response:
        """After the view: keep what it made."""
        part: _Part | None = g.get("console_part")
        is_page = response.status_code == 200 and response.mimetype == "text/html"
        if part is not None and is_page and not g.get("console_personal", False):
            part.body = response.get_data()
        return response

    def release(self, _error: BaseException | None = None) -> None:
        """After the request, however it ended: the next one may go on."""
        part: _Part | None = g.pop("console_part", None)
        if part is not None:
            part.lock.release()
