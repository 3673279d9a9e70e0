"""`GET /console/stream`: a message whenever a row is new that belongs on the page that asks.

A message has keys of rows, no values: the page asks for itself, or counts. So whatever the page hides stays hidden.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from flask import Response, g, request
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from service.web.console import arguments
from service.web.console.streams import Wanted
from service.web.console.tail import CHANGES, EVENTS

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

# A page without a stream asks for itself every five seconds meanwhile.
RETRY_SECONDS = 30
TOPICS = {"changes": (CHANGES,), "events": (EVENTS,), "timeline": (CHANGES, EVENTS)}
FACTS = ("model", "event", "status", "source")


def register(pages: Blueprint, console: Console) -> None:
    """Add it."""
    streams = console.streams

    def stream() -> Response:
        # The names under which gunicorn and Werkzeug's own server give the client's socket.
        socket = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
        opened = streams.open(_wanted(), g.console_session.ends_at - time(), socket)
        if opened is None:
            raise ServiceUnavailable("Too many pages are open with a stream: poll.", retry_after=RETRY_SECONDS)
        response = Response(opened.messages(), mimetype="text/event-stream")
        response.call_on_close(lambda: streams.close(opened))
        # nginx would keep messages back until its buffer is full.
        response.headers["X-Accel-Buffering"] = "no"
        return response

    pages.get("/stream")(stream)


def _wanted() -> Wanted:
    """What the page that asks shows.

    Raises:
        BadRequest: a parameter cannot be read.
    """
    topics = arguments.choice("of", tuple(TOPICS))
    if topics is None:
        raise BadRequest(f"of has to be one of {', '.join(TOPICS)}.")
    facts = [(name, value) for name in FACTS if (value := arguments.text(name)) is not None]
    # The reason of a dead event may be longer than what people type.
    if error := request.args.get("error"):
        facts.append(("error", error))
    return Wanted(TOPICS[topics], tuple(facts))
