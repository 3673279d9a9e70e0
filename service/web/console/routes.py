"""The console's routes, and what happens before and after each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, g, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from service.errors import MirrorError, StatementTimeout, Unavailable
from service.storage import console_secret
from service.web.console import (
    accuracy,
    acts,
    alerts,
    audit,
    changes,
    events,
    model,
    models,
    overview,
    parts,
    pulls,
    security,
    settings_page,
    static_files,
    stream,
    subscriptions,
)
from service.web.console.access import Access
from service.web.console.parts import Parts
from service.web.console.sessions import SessionSigner
from service.web.errors import RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from flask import Flask, Response
    from werkzeug.wrappers import Response as BaseResponse

    from service.web.console.console import Console

PREFIX = "/console"
# The name of the streams among the extensions of the application.
STREAMS = "console_streams"
# The pages: each module adds its own.
PAGES = (
    overview, models, model, changes, events, pulls, alerts, subscriptions, accuracy, audit, settings_page, acts,
    stream,
)  # fmt: skip
# They need no session.
PUBLIC = ("console.show_login", "console.log_in", "console.static_file", "console.without_slash")
# A form has a password or a few ids.
MAX_FORM_BYTES = 64 * 1024
_RELOADS = f"This page tries again every {RETRY_AFTER_SECONDS} seconds by itself."
_WAITS = f"{_RELOADS} Deliveries are still accepted and stored while Postgres or Redis is available."


def register(app: Flask, console: Console) -> None:
    """Add the console to an application; nothing is connected yet."""
    settings = console.settings
    # Where the server finds what it has to end when it stops.
    app.extensions[STREAMS] = console.streams

    def read_secret() -> str:
        with console.reading() as connection:
            return console_secret.read_or_create(connection)

    access = Access(settings, SessionSigner(settings, read_secret))
    pages = Blueprint("console", __name__, url_prefix=PREFIX, template_folder="templates")
    _add_hooks(pages, console, access)

    pages.get("", endpoint="without_slash")(lambda: redirect(f"{PREFIX}/", 302))
    pages.get("/login")(access.show_login)
    pages.post("/login")(access.log_in)
    pages.post("/logout")(access.log_out)
    pages.get("/static/<version>/<path:name>")(static_files.static_file)
    for module in PAGES:
        module.register(pages, console)
    pages.get("/<path:path>", endpoint="nowhere")(_nowhere)
    app.register_blueprint(pages)
    console.prepare(app)


def _add_hooks(pages: Blueprint, console: Console, access: Access) -> None:
    """What happens before and after each request of a page."""
    known_parts = Parts(console.streams)

    def enter() -> BaseResponse | None:
        """Before each request: the session first, because it costs nothing; then a slot."""
        request.max_content_length = MAX_FORM_BYTES
        if request.endpoint in PUBLIC:
            return None
        refusal = access.require_session()
        # A stream waits most of its time: they have a limit of their own.
        if refusal is not None or request.endpoint == "console.stream":
            return refusal
        if parts.is_wanted() and (found := known_parts.find(g.console_session.role)):
            return found
        console.slots.take()
        return None

    def csrf_token() -> str:
        g.console_personal = True
        return access.csrf_token()

    pages.before_request(enter)
    pages.after_request(access.keep_session)
    # The last one that is registered runs first.
    pages.after_request(security.add_page_headers)
    pages.after_request(parts.add_tag)
    pages.after_request(known_parts.keep)
    pages.teardown_request(known_parts.release)
    pages.teardown_request(console.slots.give_back)
    pages.context_processor(lambda: {**console.context(), "csrf_token": csrf_token, "is_part": parts.is_wanted()})
    pages.register_error_handler(HTTPException, _http_error)
    pages.register_error_handler(MirrorError, _mirror_error)


def _nowhere(path: str) -> Response:
    raise NotFound(f"There is no page {path!r} in the console.")


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    message = error.description or error.name
    response = _page(error.name, message, _RELOADS if status == 503 and request.method == "GET" else "", status)
    for name, value in error.get_headers():
        if name.lower() in ("retry-after", "allow"):
            response.headers[name] = value
    return response


def _mirror_error(error: MirrorError) -> Response:
    """A page that says which server is unavailable, and what to do."""
    if isinstance(error, StatementTimeout):
        title, status = "That took too long", 503
        action = "Choose a shorter time or a narrower filter, and try again."
    elif isinstance(error, Unavailable):
        title, status = "A server is unavailable", 503
        action = _WAITS if request.method == "GET" else "Try again once it is back."
    else:
        title, status, action = InternalServerError().name, 500, getattr(error, "action", "")
    if status == 503 and request.endpoint == "console.do_act":
        action = "The page Audit then shows whether the act was done: read it there before you send the form again."
    response = _page(title, str(error), action, status)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _page(title: str, message: str, action: str, status: int) -> Response:
    page = render_template("console/error.html", title=title, message=message, action=action)
    response = make_response(page, status)
    if action.startswith(_RELOADS):
        # A form that was sent does not: that would send it again.
        response.headers["Refresh"] = str(RETRY_AFTER_SECONDS)
    return response
