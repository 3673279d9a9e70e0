"""Acts that begin or cancel a task, which workers do in slices: replays, releases of held pulls, erasures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from flask import redirect, url_for
from werkzeug.exceptions import BadRequest, NotFound

from service.api.writes import UPSTREAM_DEADLINE_SECONDS
from service.errors import MirrorError
from service.mirror import held_pulls, tasks
from service.model_fields import DELETED
from service.storage import audit, console_events, organization, pulls, suspects
from service.storage import tasks as storage
from service.storage.api_queries import ModelFilter, total
from service.storage.console_events import EventSearch
from service.storage.organization import MirroredOrganization
from service.upstream.budget import Priority
from service.web.console.act_page import ActPage, Deed, Facts, cost, to_number
from service.web.console.model import find
from service.web.console.presentation import exact_time, number, page_url

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

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
    given = {name: value for name, value in search._asdict().items() if value is not None}
    shown = [(name, exact_time(one) if isinstance(one, datetime) else one) for name, one in given.items()]
    return {
        "facts": (("Events that match", number(found)), *shown),
        "refusal": refusal,
        "hidden": {"previewed_at": now.isoformat()},
    }


def _replay_all(console: Console, deed: Deed) -> Response:
    try:
        previewed_at = datetime.fromisoformat(deed.form.get("previewed_at", "")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest("The form does not hold the time of its page: open the page again.") from None
    return _begun(console, tasks.begin_replay(console.engine, _until(_search(deed.target), previewed_at), deed.actor))


def _begun(console: Console, task_id: int) -> Response:
    console.queue_tasks()
    return redirect(page_url("tasks", task_id), 303)


def _release_facts(console: Console, target: str) -> Facts:
    pull_id = to_number(target)
    with console.reading() as connection:
        pull = pulls.one(connection, pull_id)
        held = suspects.count_held(connection, pull_id)
        mirrored = organization.read(connection)
        live = total(connection, ModelFilter())
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


def _release(console: Console, deed: Deed) -> int | Response:
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
    return act.row_id


def _cancel_facts(console: Console, target: str) -> Facts:
    with console.reading() as connection:
        task = storage.one(connection, to_number(target))
    if task is None:
        raise NotFound(f"There is no task {target}.")
    done = f"{number(task['done'])} of {number(task['total'])}"
    refusal = "" if task["finished_at"] is None else f"The task is {task['status']} already."
    return {"facts": (("Handled so far", done),), "refusal": refusal}


def _cancel(console: Console, deed: Deed) -> Response:
    tasks.cancel(console.engine, to_number(deed.target), deed.actor)
    return redirect(page_url("tasks", deed.target), 303)


def _events(target: str) -> str:
    given: dict[str, Any] = dict(parse_qsl(target))
    given = {{"model_id": "model"}.get(name, name): value for name, value in given.items()}
    return url_for("console.events", **{name: value for name, value in given.items() if name in _SHOWN})


_SHOWN = ("event", "status", "model", "error", "since", "until")


def _erase_facts(console: Console, model_id: str) -> Facts:
    with console.reading() as connection:
        row = find(connection, model_id)
        other = storage.open_erasure(connection, model_id)
    refusal = ""
    if row["status"] != DELETED:
        refusal = f"{model_id} is {row['status']}: only a deleted model can be erased; delete it first."
    elif row["erased_at"] is not None:
        refusal = f"{model_id} was erased before: nothing is left to erase."
    elif other:
        refusal = f"Task {other} erases it already."
    return {"facts": (("Name", console.names.person(row["title"])),), "refusal": refusal}


def _erase(console: Console, deed: Deed) -> Response:
    return _begun(console, tasks.begin_erasure(console.engine, deed.target, deed.actor))


ACTS = {
    "erase": ActPage(
        "Erase personal data",
        "Name, address, gender, the bodies of its events and its old values are erased for good. A worker does it: it "
        "searches all events for the person first, and a page shows how far it is.",
        _erase, lambda target: page_url("models", target), _erase_facts, danger=True,
    ),
    "replay-all": ActPage(
        "Replay all that match",
        "A worker merges each of these events once more, the oldest first, by the rules of every event: newer values "
        "stay. Webhooks go first. Its page shows how far it is, and cancels it.",
        _replay_all, _events, _replay_facts, named="Events by a filter",
    ),
    "release": ActPage(
        "Release the held pull",
        "The pull is decided, and nothing but a backup undoes it.",
        _release, lambda target: page_url("pulls", target), _release_facts, template="act_release.html",
        named="Pull {}", danger=True, waits=True,
    ),
    "cancel": ActPage(
        "Cancel the task",
        "It stops after the batch that is in flight. What it did stays done.",
        _cancel, lambda target: page_url("tasks", target), _cancel_facts, named="Task {}",
    ),
}  # fmt: skip
