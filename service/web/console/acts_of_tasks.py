"""Acts that begin or cancel a task, which workers do in slices: replays of many events, releases of held pulls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from flask import url_for
from werkzeug.exceptions import BadRequest, NotFound

from service.api.writes import UPSTREAM_DEADLINE_SECONDS
from service.errors import MirrorError
from service.mirror import held_pulls, tasks
from service.mirror.replay import ACTION as REPLAY
from service.storage import audit, console_events, console_pulls, organization, pulls, suspects
from service.storage import tasks as storage
from service.storage.console_events import EventSearch
from service.storage.organization import MirroredOrganization
from service.upstream.budget import Priority
from service.web.console.act_page import ActPage, Deed, Facts, cost, to_number
from service.web.console.presentation import number, page_url

if TYPE_CHECKING:
    from service.web.console.console import Console


def _search(target: str) -> EventSearch:
    try:
        search = EventSearch.of_document(dict(parse_qsl(target, strict_parsing=True)))
    except (ValueError, TypeError):
        raise NotFound("No filter of events looks like this: begin on the page Events.") from None
    if search.replay_query is None or "\0" in target:
        raise NotFound("No filter of events looks like this: begin on the page Events.")
    return search


def _until(search: EventSearch, previewed_at: datetime) -> EventSearch:
    """Without the events that arrive after the page which a person confirms."""
    return search._replace(until=min(search.until or previewed_at, previewed_at))


def _replay_facts(console: Console, target: str) -> Facts:
    now = datetime.now(UTC)
    search = _until(_search(target), now)
    with console.reading() as connection:
        found = console_events.count(connection, search, tasks.MAX_EVENTS)
        running = [one for one in storage.list_running(connection) if one["kind"] == storage.REPLAY]
    refusal = ""
    if running:
        refusal = f"Task {running[0]['id']} replays events already: wait for its end, or cancel it."
    elif not found:
        refusal = "No event matches."
    elif found > tasks.MAX_EVENTS:
        refusal = f"More than {number(tasks.MAX_EVENTS)} events match: choose a narrower filter."
    shown = [(name, str(value)) for name, value in search._asdict().items() if value is not None]
    return {
        "facts": (("Events that match", number(found)), *shown),
        "refusal": refusal,
        "hidden": {"previewed_at": now.isoformat()},
    }


def _replay_all(console: Console, deed: Deed) -> str:
    try:
        previewed_at = datetime.fromisoformat(deed.form.get("previewed_at", "")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("The form does not hold the time of its page: open the page again.") from None
    return _begun(console, tasks.begin_replay(console.engine, _until(_search(deed.target), previewed_at), deed.actor))


def _begun(console: Console, task_id: int) -> str:
    console.queue_tasks()
    return page_url("tasks", task_id)


def _release_facts(console: Console, target: str) -> Facts:
    pull_id = to_number(target)
    with console.reading() as connection:
        pull = pulls.one(connection, pull_id)
        held = suspects.count_held(connection, pull_id)
        mirrored = organization.read(connection)
        live = console_pulls.live_models(connection)
        running = [one for one in storage.list_running(connection) if one["kind"] == storage.RELEASE]
    if pull is None or pull["status"] != "held":
        return {"refusal": f"Pull {pull_id} is not held."}
    found: tuple[tuple[str, str], ...] = (
        ("It is held, because", pull["error"]),
        ("Live models in the mirror", number(live)),
    )
    if pull["pages"]:
        refusal = running and f"Task {running[0]['id']} releases a pull already: wait for its end, or cancel it."
        return {"facts": (*found, ("Suspects", number(held)), *cost(console, held)), "refusal": refusal}
    return {
        "facts": (*found, ("This database mirrors", str(mirrored or "no organization yet")), *cost(console, 1)),
        "mirrored": mirrored,
        "live": live,
    }


def _release(console: Console, deed: Deed) -> str | None:
    pull_id = to_number(deed.target)
    pull = held_pulls.require_held(console.engine, pull_id)
    if pull["pages"]:
        return _begun(console, tasks.begin_release(console.engine, pull_id, deed.actor))
    client = console.upstream.client
    with audit.recorded(console.engine, audit.Act(deed.actor, held_pulls.RELEASE, deed.target)) as act:
        seen = client.organization(priority=Priority.REFETCH, max_wait=UPSTREAM_DEADLINE_SECONDS).body
        of_key = MirroredOrganization(seen.uid, seen.name if isinstance(seen.name, str) else None)
        try:
            held_pulls.switch_organization(console.engine, pull_id, of_key, deed.form.get("uid", "").strip())
        except MirrorError as error:
            act.detail["reason"] = str(error)
            raise
        act.detail["organization"] = of_key.uid
    return None


def _cancel_facts(console: Console, target: str) -> Facts:
    with console.reading() as connection:
        task = storage.one(connection, to_number(target))
    if task is None:
        raise NotFound(f"There is no task {target}.")
    done = f"{number(task['done'])} of {number(task['total'])}"
    refusal = "" if task["status"] == storage.RUNNING else f"The task is {task['status']} already."
    return {"facts": (("Handled so far", done),), "refusal": refusal}


def _cancel(console: Console, deed: Deed) -> str:
    tasks.cancel(console.engine, to_number(deed.target), deed.actor)
    return page_url("tasks", deed.target)


def _events(target: str) -> str:
    given: dict[str, Any] = dict(parse_qsl(target))
    given = {{"model_id": "model"}.get(name, name): value for name, value in given.items()}
    return url_for("console.events", **{name: value for name, value in given.items() if name in _SHOWN})


_SHOWN = ("event", "status", "model", "error", "since", "until")

ACTS = {
    "replay-all": ActPage(
        "Replay all that match", REPLAY,
        "A worker merges each of these events once more, the oldest first, by the rules of every event: newer values "
        "stay. Webhooks go first. Its page shows how far it is, and cancels it.",
        _replay_all, _events, _replay_facts, named="Events by a filter",
    ),
    "release": ActPage(
        "Release the held pull", held_pulls.RELEASE,
        "The pull is decided, and nothing but a backup undoes it.",
        _release, lambda target: page_url("pulls", target), _release_facts, template="act_release.html",
        named="Pull {}", danger=True, waits=True,
    ),
    "cancel": ActPage(
        "Cancel the task", tasks.CANCEL_ACTION,
        "It stops after the batch that is in flight. What it did stays done.",
        _cancel, lambda target: page_url("tasks", target), _cancel_facts, named="Task {}",
    ),
}  # fmt: skip
