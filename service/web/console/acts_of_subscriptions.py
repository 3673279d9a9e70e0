"""Acts on subscriptions. A new secret is shown on the page that follows, this once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import make_response

from service.subscriptions.commands import MAX_BATCH, SubscriptionBody, SubscriptionCommands, refused
from service.web.console.act_page import ActPage, Deed, Facts, to
from service.web.console.presentation import page_url
from service.web.console.subscriptions import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.wrappers import Response

    from service.web.console.console import Console


def _facts(console: Console, name: str) -> Facts:
    with console.reading() as connection:
        row = find(connection, name)
    return {"facts": (("State", row["state"]), ("Requests go to", row["url"]))}


def _recorded(console: Console, deed: Deed, do: Callable[[SubscriptionCommands], Any]) -> tuple[int, Any]:
    """Do an act: its row in the audit log, and what it returned."""
    rows: list[int] = []
    result = do(SubscriptionCommands(console.engine, deed.actor, noted=rows.append))
    return rows[0], result


def _act(do: Callable[[SubscriptionCommands, Console, Deed], Any]) -> Callable[[Console, Deed], int]:
    def run(console: Console, deed: Deed) -> int:
        _facts(console, deed.target)
        return _recorded(console, deed, lambda commands: do(commands, console, deed))[0]

    return run


def _rotate(console: Console, deed: Deed) -> Response:
    _facts(console, deed.target)
    return _with_secret(console, deed.target, *_recorded(console, deed, lambda commands: commands.rotate(deed.target)))


def _add(console: Console, deed: Deed) -> Response:
    wanted = _wanted(deed.form)
    return _with_secret(console, wanted.name, *_recorded(console, deed, lambda commands: commands.add(wanted)))


def _with_secret(console: Console, name: str, row_id: int, secret: str) -> Response:
    return make_response(console.render("subscription_secret.html", name=name, row_id=row_id, secret=secret))


def _wanted(form: Mapping[str, str]) -> SubscriptionBody:
    """The subscription that the form describes.

    Raises:
        ApiError: 400, the batch is no number.
    """
    batch = form.get("batch", "").strip()
    if batch and not (batch.isascii() and batch.isdigit() and len(batch) < 4):
        raise refused(f"a batch has 1 to {MAX_BATCH} changes")
    return SubscriptionBody(
        name=form.get("name", "").strip(),
        url=form.get("url", "").strip(),
        statuses=_listed(form.get("statuses", "")),
        teams=_listed(form.get("teams", "")),
        with_personal_data="with_personal_data" in form,
        batch=int(batch) if batch else None,
    )


def _listed(text: str) -> tuple[str, ...]:
    """The parts of a text between commas."""
    return tuple(part for word in text.split(",") if (part := word.strip()))


def _page(name: str) -> str:
    return page_url("subscriptions", name)


ACTS = {
    "add-subscription": ActPage(
        "Add the subscription",
        "The service is sent each change from now on. The secret that signs its requests is shown on the next page, "
        "once.",
        _add, to("console.subscriptions"), lambda _console, _target: {"max_batch": MAX_BATCH},
        template="act_add_subscription.html", named="A new subscription", asks=True,
    ),
    "test-subscription": ActPage(
        "Send a test request",
        "One signed request of type subscription.test is sent to it now; its response is shown. It carries no change.",
        _act(lambda commands, console, deed: commands.send_test(deed.target, console.settings)), _page, _facts,
        waits=True,
    ),
    "pause-subscription": ActPage(
        "Pause",
        "Nothing is sent to it until it is resumed. Its cursor stays, and no change is lost.",
        _act(lambda commands, _console, deed: commands.pause(deed.target)), _page, _facts,
    ),
    "resume-subscription": ActPage(
        "Resume",
        "It is sent what waits for it, from its cursor on, at once: also where it is failing or disabled.",
        _act(lambda commands, _console, deed: commands.resume(deed.target)), _page, _facts,
    ),
    "replay-subscription": ActPage(
        "Replay",
        "Changes are sent again, as requests with new ids: the service processes them a second time. A failing or "
        "disabled subscription becomes active.",
        _act(lambda commands, _console, deed: commands.replay(deed.target, deed.form.get("since", "").strip() or None)),
        _page, _facts, template="act_replay_subscription.html", asks=True,
    ),
    "rotate-subscription": ActPage(
        "Rotate the secret",
        "A new signing secret is made, and shown once. For 24 hours the present one signs, too.",
        _rotate, _page, _facts,
    ),
    "remove-subscription": ActPage(
        "Remove", "It is removed with its cursor, its secret and all that waits for it.",
        _act(lambda commands, _console, deed: commands.remove(deed.target)), _page, _facts, danger=True,
    ),
}  # fmt: skip
