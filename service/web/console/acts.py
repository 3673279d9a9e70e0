"""The acts of operators in the console: each has a page that says what will happen, and one row in the audit log."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from flask import g, make_response, redirect, request, url_for
from werkzeug.exceptions import Conflict, Forbidden, NotFound

from service.errors import MirrorError, PreviewOutdated, Unavailable
from service.storage import audit
from service.web.console import acts_here, acts_of_tasks, acts_outside
from service.web.console.act_page import ActPage, Deed
from service.web.console.proxies import ProxyHeaders
from service.web.console.sessions import Role

if TYPE_CHECKING:
    from flask import Blueprint
    from werkzeug.wrappers import Response

    from service.web.console.console import Console

ACTS = {**acts_here.ACTS, **acts_outside.ACTS, **acts_of_tasks.ACTS}
PATH = "/acts/<name>/<path:target>"


def register(pages: Blueprint, console: Console) -> None:
    """Add the page of each act, and the act itself."""
    proxies = ProxyHeaders(console.settings)

    def confirm_act(name: str, target: str) -> str:
        act = _find(name, target)
        # Sending the form is refused anyway; so is the page that offers it.
        if g.console_session.role < Role.OPERATOR:
            raise Forbidden("Viewers may look and change nothing: log in with the operators' password.")
        return show(act, target)

    def show(act: ActPage, target: str, outdated: str = "") -> str:
        facts = act.facts(console, target)
        return console.render(act.template, act=act, target=target, back=act.back(target), outdated=outdated, **facts)

    def do_act(name: str, target: str) -> Response:
        act = _find(name, target)
        deed = Deed(target, audit.Actor(g.console_session.user, audit.CONSOLE, proxies.address(request)), request.form)
        with console.reading() as connection:
            newest = audit.newest_id(connection)
        refusal: MirrorError | None = None
        result: str | None = None
        try:
            with console.waiting_outside() if act.waits else nullcontext():
                result = act.run(console, deed)
        except Unavailable:
            raise
        except PreviewOutdated as error:
            return make_response(show(act, target, f"Nothing was done: {error}. This is what would happen now."), 409)
        except MirrorError as error:
            refusal = error
        with console.reading() as connection:
            row_id = audit.newest_of(connection, deed.actor, act.action, target, newest)
        if row_id is None:
            raise Conflict(f"Nothing was changed: {refusal}.")
        return redirect(result or url_for("console.act", row_id=row_id), 303)

    pages.get(PATH, merge_slashes=False)(confirm_act)
    pages.post(PATH, merge_slashes=False)(do_act)


def _find(name: str, target: str) -> ActPage:
    if name not in ACTS or "\0" in target:
        raise NotFound("There is no such act.")
    return ACTS[name]
