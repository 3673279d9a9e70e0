"""Acts on the mirror's own data: each is recorded in its own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound

from service.errors import MirrorError
from service.mirror import held_pulls
from service.mirror.preview import preview
from service.mirror.replay import replay_as_previewed
from service.storage import alerts, audit, events, set_aside
from service.storage.database import transaction
from service.web.console.act_page import ActPage, to, to_number
from service.web.console.presentation import page_url

if TYPE_CHECKING:
    from service.web.console.act_page import Deed, Facts
    from service.web.console.console import Console


def _acknowledge(console: Console, deed: Deed) -> int:
    with transaction(console.engine) as connection:
        found = alerts.acknowledge(connection, [to_number(deed.target)])
        if not found:
            raise MirrorError(f"alert {deed.target} is not open any more")
        return audit.record(connection, audit.Act(deed.actor, "alerts.acknowledge", detail={"alerts": sorted(found)}))


def _resolve(console: Console, deed: Deed) -> int:
    with transaction(console.engine) as connection:
        if not set_aside.resolve_one(connection, to_number(deed.target)):
            raise MirrorError(f"row {deed.target} is not open any more")
        return audit.record(connection, audit.Act(deed.actor, "set_aside.resolve", deed.target))


def _replay_facts(console: Console, event_id: str) -> Facts:
    with console.reading() as connection:
        kept = events.one(connection, event_id)
        if kept is None:
            raise NotFound(f"There is no event {event_id!r}: it never came, or EVENT_RETENTION_DAYS have passed.")
        foreseen = preview(connection, kept, console.settings.webhook_tolerance)
    refusal = "" if foreseen.is_possible else f"Nothing can be done: {foreseen.reason}."
    return {"preview": foreseen, "refusal": refusal, "hidden": {"token": foreseen.token}}


def _replay(console: Console, deed: Deed) -> int:
    return replay_as_previewed(
        console.engine, deed.target, console.settings.webhook_tolerance, deed.form.get("token", ""), deed.actor
    )


ACTS = {
    "replay": ActPage(
        "Replay the event",
        "The event is merged once more, by the rules of every event: newer values stay. If the preview is no longer "
        "true by then, nothing is done and you see a new one.",
        _replay, lambda target: page_url("events", target), _replay_facts, template="act_replay.html", asks=True,
    ),
    "acknowledge": ActPage(
        "Acknowledge",
        "No reminder of it is sent any more. The notification that it was resolved still is.",
        _acknowledge, to("console.alerts"), named="Alert {}",
    ),
    "reject": ActPage(
        "Reject the held pull",
        "The pull has failed, and no pull decides its suspects for a day: they stay as they are.",
        lambda console, deed: held_pulls.reject(console.engine, to_number(deed.target), deed.actor),
        lambda target: page_url("pulls", target), named="Pull {}",
    ),
    "resolve": ActPage(
        "Mark as resolved", "It opens again if a pull, GET or event finds the same.", _resolve,
        to("console.set_aside"), named="Row {}",
    ),
}  # fmt: skip
