"""The parts of an act of the console: the texts and figures of its page, and the function that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import url_for
from werkzeug.exceptions import NotFound

from service.errors import RedisUnavailable
from service.web.console.arguments import read_number
from service.web.console.presentation import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.wrappers import Response

    from service.storage.audit import Actor
    from service.web.console.console import Console

Facts = dict[str, Any]


class Deed(NamedTuple):
    """An act that a person confirmed.

    Attributes:
        target: id, number or name of its object.
        actor: the person, for the audit log.
        form: what else the page's form held.
    """

    target: str
    actor: Actor
    form: Mapping[str, str]


class ActPage(NamedTuple):
    """An act, as its page describes it.

    Attributes:
        title: what the button says, without the target.
        effect: what will happen, for the person who decides.
        run: does it, with exactly one row in the audit log where it does anything: that row's id, or another page.
        back: the page to go to afterwards.
        facts: reads what the page shows beside the effect, nothing by default: `facts` are pairs of a label and a
            value, `hidden` is what the form sends back unseen, `refusal` why the act cannot be done.
        template: its page.
        named: how the page names the target, as a format.
        danger: it cannot be undone.
        waits: it waits for the upstream or for receivers.
        asks: its page has fields; it is shown again, with what was typed, where the act is refused.
    """

    title: str
    effect: str
    run: Callable[[Console, Deed], int | Response]
    back: Callable[[str], str]
    facts: Callable[[Console, str], Facts] = lambda _console, _target: {}
    template: str = "act.html"
    named: str = "{}"
    danger: bool = False
    waits: bool = False
    asks: bool = False


def to(endpoint: str) -> Callable[[str], str]:
    """Back to a page that every target shares."""
    return lambda _target: url_for(endpoint)


def to_number(target: str) -> int:
    """A target that is a number.

    Raises:
        NotFound: it is none.
    """
    if (found := read_number(target)) is None:
        raise NotFound(f"There is no number {target!r}.")
    return found


def cost(console: Console, requests: int) -> tuple[tuple[str, str], ...]:
    """The cost of an act in requests of the vendor's API, and how many the budget allows now."""
    try:
        left = f"{number(console.budget.requests_left())} at this moment"
    except RedisUnavailable:
        left = "unknown: Redis is unavailable"
    word = "request" if requests == 1 else "requests"
    return ("It costs", f"{number(requests)} {word} of the vendor's API"), ("The request budget allows", left)
