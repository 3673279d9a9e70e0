"""What open pages ask for again and again: the content of a page, made once for all who would see the same.

A browser asks every few seconds (`static/console.js`), with the tag of what it shows: a page that would look the same
again is a 304. The tag is a digest of the page, without the nonce, which differs in each response.

The script asks with the header `Console-Part`, whose value is the last message that it got of a stream. The response is
the page's `main` element, which holds nothing of one session: a part with a token of its forms is not kept.

Why: `docs/decisions/0043-streams-by-polling.md`.
"""

from __future__ import annotations

import hashlib
import math
import threading
from time import monotonic
from typing import TYPE_CHECKING

from flask import Response, g, request
from werkzeug.exceptions import ServiceUnavailable

from service.web.console import security
from service.web.console.limits import WAIT_SECONDS, give_way
from service.web.errors import RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from service.web.console.sessions import Role
    from service.web.console.streams import Streams

HEADER = "Console-Part"
# A part that is older is made again.
KEPT_SECONDS = 2.0
MAX_PARTS = 64
# Messages that a part remembers; a stream sends one a second.
MAX_MESSAGES = 8


def is_wanted() -> bool:
    """Whether this request asks for a part."""
    return request.method == "GET" and HEADER in request.headers


def _is_tagged(response: Response) -> bool:
    """Whether it is a page, which has a tag."""
    return request.method == "GET" and response.status_code == 200 and response.mimetype == "text/html"


def _tag_of(response: Response) -> str:
    content = response.get_data().replace(security.nonce().encode(), b"")
    return hashlib.sha256(content).hexdigest()[:32]


def add_tag(response: Response) -> Response:
    """Tag a page by its content, and leave out its body where the browser has it."""
    if _is_tagged(response):
        # A part that was kept has its tag.
        if "ETag" not in response.headers:
            response.set_etag(_tag_of(response), weak=True)
        # `make_conditional` writes the date first, which costs more than all else here; gunicorn writes its own.
        if request.if_none_match.contains_raw(response.headers["ETag"]):
            response.status_code = 304
    return response


class _Part:
    """One part.

    Attributes:
        lock: held by the request that makes the next body.
        body: the newest one.
        tag: of the body.
        begun: when a request began to make it, by `time.monotonic`.
        made: when it was ready.
        due: when the next one may begin.
        asked: when a request first asked with each message.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.body: bytes | None = None
        self.tag = ""
        self.begun = self.made = 0.0
        # A machine that just started counts from zero.
        self.due = -math.inf
        self.asked: dict[str, float] = {}

    def response(self, asked: float, seconds: float) -> Response | None:
        """The newest body; None where it is older than that and the next one is due, or was begun before `asked`."""
        if self.body is None or self.begun < asked or monotonic() > max(self.made + seconds, self.due):
            return None
        response = Response(self.body, mimetype="text/html")
        response.set_etag(self.tag, weak=True)
        return response

    def begin(self, streams: Streams) -> float:
        """Wait until the next body may begin, and return when that is. After a rest three may begin at once."""
        if self.body is not None and (left := self.due - monotonic()) > 0:
            streams.rest(left)
        began, pace = monotonic(), streams.pace_seconds
        self.due = max(self.due, began - 2 * pace) + pace
        return began


class Parts:
    """The newest parts of a process. While rows go on coming each is made as often as a page asks: see `Streams`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._parts: dict[tuple[str, bytes, Role], _Part] = {}

    def find(self, role: Role) -> Response | None:
        """Before a request works: the part that it asks for; None: this request makes the next one.

        A part that was begun before a message may lack its row, as each process reads what is new for itself.

        Raises:
            ServiceUnavailable: another request takes too long to make it.
        """
        # A path may hold a question mark, so the two are kept apart.
        key = (request.path, request.query_string, role)
        part = self._parts.get(key) or self._parts.setdefault(key, _Part())
        if len(self._parts) > MAX_PARTS:
            self._parts.pop(next(iter(self._parts)), None)
        asked = part.asked.setdefault(request.headers[HEADER], monotonic())
        if len(part.asked) > MAX_MESSAGES:
            part.asked.pop(next(iter(part.asked)), None)
        # While the next one is made others have the last one: they would wait for it, and then all go on at once.
        seconds = KEPT_SECONDS + WAIT_SECONDS if part.lock.locked() else KEPT_SECONDS
        if (found := part.response(asked, seconds)) is not None:
            return found
        # The request that has it may rest that long before it begins.
        if not part.lock.acquire(timeout=self._streams.pace_seconds + WAIT_SECONDS):
            raise ServiceUnavailable("This page takes too long: try again.", retry_after=RETRY_AFTER_SECONDS)
        if (found := part.response(asked, KEPT_SECONDS)) is None:
            g.console_part = part
            g.console_part_begun = part.begin(self._streams)
        else:
            part.lock.release()
            # All requests that waited go on one after the other: deliveries go in between.
            give_way()
        return found

    def keep(self, response: Response) -> Response:
        """After the view: keep what it made."""
        part: _Part | None = g.get("console_part")
        # One that was made meanwhile has its tag already.
        if part is not None and "ETag" not in response.headers:
            is_kept = _is_tagged(response) and not g.get("console_personal", False)
            part.body = response.get_data() if is_kept else None
            part.tag = _tag_of(response) if is_kept else ""
            part.begun, part.made = g.console_part_begun, monotonic()
        return response

    def release(self, _error: BaseException | None = None) -> None:
        """After the request, however it ended: the next one may go on."""
        part: _Part | None = g.pop("console_part", None)
        if part is not None:
            part.lock.release()
