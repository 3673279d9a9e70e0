"""The acts of operators in the console: each has a page that says what will happen, and one row in the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from flask import g, redirect, request, url_for
from werkzeug.exceptions import Conflict, Forbidden, NotFound

from service.errors import MirrorError, Unavailable
from service.mirror import held_pulls
from service.mirror.erasure import erase_now
from service.storage import alerts, audit, models, refetches, set_aside
from service.storage.database import transaction
from service.web.console.arguments import MAX_NUMBER
from service.web.console.presentation import page_url
from service.web.console.proxies import ProxyHeaders
from service.web.console.sessions import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint
    from sqlalchemy import Engine
    from werkzeug.wrappers import Response

    from service.web.console.console import Console


class ActPage(NamedTuple):
    """An act, as its page describes it.

    Attributes:
        title: what the button says, without the target.
        effect: what will happen, for the person who decides.
        run: does it, with its row in the audit log; takes the target and the person.
        back: the page to go to afterwards.
        danger: it cannot be undone.
    """

    title: str
    effect: str
    run: Callable[[Engine, str, audit.Actor], None]
    back: Callable[[str], str]
    danger: bool = False


def _acknowledge(engine: Engine, target: str, actor: audit.Actor) -> None:
    with transaction(engine) as connection:
        found = alerts.acknowledge(connection, None if target == "all" else [_number(target)])
        if not found:
            raise MirrorError(f"alert {target} is not open any more")
        audit.record(connection, audit.Act(actor, "alerts.acknowledge", detail={"alerts": sorted(found)}))


def _refetch(engine: Engine, target: str, actor: audit.Actor) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        if target not in models.read(connection, [target]):
            raise MirrorError(f"the mirror has never seen a model {target}")
        # A person doubts the row: the same as two observations that disagree.
        wanted = refetches.RefetchRequest.later_than(now, target, refetches.RefetchReason.DISPUTE, now)
        refetches.add_requests(connection, [wanted])
        audit.record(connection, audit.Act(actor, "model.refetch", target))


def _erase(engine: Engine, target: str, actor: audit.Actor) -> None:
    if not erase_now(engine, target, actor):
        raise MirrorError(f"{target} was erased before")


def _reject(engine: Engine, target: str, actor: audit.Actor) -> None:
    held_pulls.reject(engine, _number(target), actor)


def _resolve(engine: Engine, target: str, actor: audit.Actor) -> None:
    with transaction(engine) as connection:
        if not set_aside.resolve_one(connection, _number(target)):
            raise MirrorError(f"row {target} is not open any more")
        audit.record(connection, audit.Act(actor, "set_aside.resolve", target))


def _to(endpoint: str) -> Callable[[str], str]:
    return lambda _target: url_for(endpoint)


ACTS = {
    "acknowledge": ActPage(
        "Acknowledge", "No reminders are sent any more; that it was resolved still is.", _acknowledge,
        _to("console.alerts"),
    ),
    "refetch": ActPage(
        "Ask the vendor now",
        "One request of the API is spent within seconds. The response is merged, and its step in the timeline shows "
        "each field that differed.",
        _refetch, lambda target: page_url("models", target),
    ),
    "erase": ActPage(
        "Erase personal data",
        "Name, address, gender, the bodies of its events and its old values are erased for good. Only a deleted model "
        "can be erased.",
        _erase, lambda target: page_url("models", target), danger=True,
    ),
    "reject": ActPage(
        "Reject the held pull",
        "The pull has failed, and no pull decides its suspects for a day: they stay as they are.",
        _reject, lambda target: page_url("pulls", target),
    ),
    "resolve": ActPage(
        "Mark as resolved", "It opens again if a pull, GET or event finds the same.", _resolve,
        _to("console.set_aside"),
    ),
}  # fmt: skip


def register(pages: Blueprint, console: Console) -> None:
    """Add the page of each act, and the act itself."""
    proxies = ProxyHeaders(console.settings)

    def confirm_act(name: str, target: str) -> str:
        act = _find(name, target)
        # Sending the form is refused anyway; so is the page that offers it.
        if g.console_session.role < Role.OPERATOR:
            raise Forbidden("Viewers may look and change nothing: log in with the operators' password.")
        return console.render("act.html", act=act, target=target, back=act.back(target))

    def do_act(name: str, target: str) -> Response:
        act = _find(name, target)
        actor = audit.Actor(g.console_session.user, audit.CONSOLE, proxies.address(request))
        try:
            act.run(console.engine, target, actor)
        except Unavailable:
            raise
        except MirrorError as error:
            raise Conflict(f"Nothing was changed: {error}.") from None
        return redirect(act.back(target), 303)

    pages.get("/acts/<name>/<path:target>", merge_slashes=False)(confirm_act)
    pages.post("/acts/<name>/<path:target>", merge_slashes=False)(do_act)


def _find(name: str, target: str) -> ActPage:
    if name not in ACTS or "\0" in target:
        raise NotFound("There is no such act.")
    return ACTS[name]


def _number(target: str) -> int:
    if not (target.isascii() and target.isdigit() and len(target) < 20 and int(target) <= MAX_NUMBER):
        raise NotFound(f"There is no number {target!r}.")
    return int(target)
