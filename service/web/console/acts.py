"""The acts of operators in the console: each has a page that says what will happen, and one row in the audit log."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from flask import g, make_response, redirect, request
from werkzeug.exceptions import Conflict, Forbidden, NotFound

from service.errors import MirrorError, Unavailable
from service.storage import audit
from service.web.console import acts_of_subscriptions, acts_of_tasks, acts_on_data, acts_outside
from service.web.console.act_page import ActPage, Deed
from service.web.console.presentation import page_url
from service.web.console.proxies import ProxyHeaders
from service.web.console.sessions import Role

if TYPE_CHECKING:
    from flask import Blueprint
    from werkzeug.wrappers import Response

    from service.web.console.console import Console

ACTS = {**acts_on_data.ACTS, **acts_outside.ACTS, **acts_of_tasks.ACTS, **acts_of_subscriptions.ACTS}
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

    def show(act: ActPage, target: str, error: str = "") -> str:
        facts = act.facts(console, target)
        shown = {"act": act, "target": target, "back": act.back(target), "error": error, "form": request.form}
        return console.render(act.template, **shown, **facts)

    def do_act(name: str, target: str) -> Response:
        act = _find(name, target)
        deed = Deed(target, audit.Actor(g.console_session.user, audit.CONSOLE, proxies.address(request)), request.form)
        try:
            with console.waiting_outside() if act.waits else nullcontext():
                done = act.run(console, deed)
        except Unavailable:
            raise
        except MirrorError as error:
            if error.act_row_id is None:
                return refuse(act, target, f"Nothing was changed: {error}.")
            done = error.act_row_id
        return redirect(page_url("audit", done), 303) if isinstance(done, int) else done

    def refuse(act: ActPage, target: str, reason: str) -> Response:
        if not act.asks:
            raise Conflict(reason)
        return make_response(show(act, target, reason), 409)

    pages.get(PATH, merge_slashes=False)(confirm_act)
    pages.post(PATH, merge_slashes=False)(do_act)


def _find(name: str, target: str) -> ActPage:
    if name not in ACTS or "\0" in target:
        raise NotFound("There is no such act.")
    return ACTS[name]
