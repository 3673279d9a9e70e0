"""The acts of operators on subscriptions: each has a page that says what will happen, and one row in the audit log."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import g, make_response, redirect, request, url_for
from werkzeug.exceptions import Conflict, Forbidden, NotFound

from service.storage import audit
from service.subscriptions.commands import (
    MAX_BATCH,
    SubscriptionCommands,
    SubscriptionConflict,
    SubscriptionMissing,
    SubscriptionRefused,
    Wanted,
)
from service.web.console.proxies import ProxyHeaders
from service.web.console.sessions import Role
from service.web.console.subscriptions import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Blueprint, Response
    from werkzeug.datastructures import MultiDict
    from werkzeug.wrappers import Response as BaseResponse

    from service.config import Settings
    from service.subscriptions.receiver import SendOutcome
    from service.web.console.console import Console


class ActResult(NamedTuple):
    """An act that shows something on a page of its own; others lead back to the page of the subscription.

    Attributes:
        secret: a new secret, which is shown this once.
        outcome: of a test request.
    """

    secret: str | None = None
    outcome: SendOutcome | None = None


class SubscriptionAct(NamedTuple):
    """An act, as its page describes it.

    Attributes:
        title: what the button says.
        effect: what will happen, for the person who decides.
        run: does it, with its row in the audit log; takes the name and the form.
        danger: it cannot be undone.
    """

    title: str
    effect: str
    run: Callable[[SubscriptionCommands, str, Settings], ActResult | None]
    danger: bool = False


def _pause(commands: SubscriptionCommands, name: str, _settings: Settings) -> None:
    commands.pause(name)


def _resume(commands: SubscriptionCommands, name: str, _settings: Settings) -> None:
    commands.resume(name)


def _replay(commands: SubscriptionCommands, name: str, _settings: Settings) -> None:
    commands.replay(name, request.form.get("since", "").strip() or None)


def _remove(commands: SubscriptionCommands, name: str, _settings: Settings) -> None:
    commands.remove(name)


def _rotate(commands: SubscriptionCommands, name: str, _settings: Settings) -> ActResult:
    return ActResult(secret=commands.rotate(name))


def _test(commands: SubscriptionCommands, name: str, settings: Settings) -> ActResult:
    return ActResult(outcome=commands.send_test(name, settings))


ACTS = {
    "test": SubscriptionAct(
        "Send a test request",
        "One signed request of type subscription.test is sent to it now; its response is shown. It carries no change.",
        _test,
    ),
    "pause": SubscriptionAct(
        "Pause", "Nothing is sent to it until it is resumed. Its cursor stays, and no change is lost.", _pause
    ),
    "resume": SubscriptionAct(
        "Resume", "It is sent what waits for it, from its cursor on, at once: also where it is failing or disabled.",
        _resume,
    ),
    "replay": SubscriptionAct(
        "Replay",
        "Changes are sent again, as requests with new ids: the service processes them a second time. A failing or "
        "disabled subscription becomes active.",
        _replay,
    ),
    "rotate": SubscriptionAct(
        "Rotate the secret",
        "A new signing secret is made, and shown once. For 24 hours the present one signs, too.",
        _rotate,
    ),
    "remove": SubscriptionAct(
        "Remove", "It is removed with its cursor, its secret and all that waits for it.", _remove, danger=True
    ),
}  # fmt: skip


class SubscriptionActViews:
    """The form of a new subscription, the page of each act, and the acts themselves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._proxies = ProxyHeaders(console.settings)

    def offer_subscription(self) -> str:
        """The form of a new subscription."""
        _require_operator()
        return self._form({}, "")

    def add_subscription(self) -> Response:
        """Add a subscription, and show its secret."""
        try:
            wanted = _wanted(request.form)
            secret = self._commands().add(wanted)
        except SubscriptionRefused as error:
            status = 409 if isinstance(error, SubscriptionConflict) else 400
            return make_response(self._form(request.form, str(error)), status)
        return make_response(self._result(wanted.name, "Added", ActResult(secret=secret)))

    def confirm_subscription_act(self, act: str, name: str) -> str:
        """Say what an act will do."""
        page = _find(act)
        _require_operator()
        return self._console.render("subscription_act.html", name=act, act=page, subscription=self._subscription(name))

    def do_subscription_act(self, act: str, name: str) -> BaseResponse:
        """Do it."""
        page = _find(act)
        self._subscription(name)
        try:
            with self._console.waiting_outside() if page.run is _test else nullcontext():
                result = page.run(self._commands(), name, self._console.settings)
        except SubscriptionMissing as error:
            raise NotFound(f"Nothing was changed: {error}.") from None
        except SubscriptionRefused as error:
            raise Conflict(f"Nothing was changed: {error}.") from None
        if result is not None:
            return make_response(self._result(name, page.title, result))
        removed = page.run is _remove
        back = url_for("console.subscriptions") if removed else url_for("console.subscription", name=name)
        return redirect(back, 303)

    def _subscription(self, name: str) -> dict[str, Any]:
        with self._console.reading() as connection:
            return find(connection, name)

    def _commands(self) -> SubscriptionCommands:
        actor = audit.Actor(g.console_session.user, audit.CONSOLE, self._proxies.address(request))
        return SubscriptionCommands(self._console.engine, actor)

    def _form(self, form: Mapping[str, str], error: str) -> str:
        return self._console.render("subscription_new.html", form=form, error=error, max_batch=MAX_BATCH)

    def _result(self, name: str, title: str, result: ActResult) -> str:
        return self._console.render("subscription_result.html", name=name, title=title, result=result)


def register(pages: Blueprint, console: Console) -> None:
    """Add the pages and the acts."""
    views = SubscriptionActViews(console)
    pages.get("/subscription-acts/add")(views.offer_subscription)
    pages.post("/subscription-acts/add")(views.add_subscription)
    pages.get("/subscription-acts/<act>/<name>")(views.confirm_subscription_act)
    pages.post("/subscription-acts/<act>/<name>")(views.do_subscription_act)


def _require_operator() -> None:
    """Sending the form is refused to viewers anyway; so is the page that offers it."""
    if g.console_session.role < Role.OPERATOR:
        raise Forbidden("Viewers may look and change nothing: log in with the operators' password.")


def _find(act: str) -> SubscriptionAct:
    if act not in ACTS:
        raise NotFound("There is no such act.")
    return ACTS[act]


def _wanted(form: MultiDict[str, str]) -> Wanted:
    """The subscription that the form describes.

    Raises:
        SubscriptionRefused: the batch is no number.
    """
    batch = form.get("batch", "").strip()
    if batch and not (batch.isascii() and batch.isdigit() and len(batch) < 4):
        raise SubscriptionRefused(f"a batch has 1 to {MAX_BATCH} changes")
    return Wanted(
        name=form.get("name", "").strip(),
        url=form.get("url", "").strip(),
        statuses=_listed(form.get("statuses", "")),
        teams=_listed(form.get("teams", "")),
        with_personal_data="with_personal_data" in form,
        batch=int(batch) if batch else None,
    )


def _listed(text: str) -> list[str]:
    """The parts of a text between commas."""
    return [part for word in text.split(",") if (part := word.strip())]
