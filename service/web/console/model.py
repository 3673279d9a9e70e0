"""The page *Model*: its fields and their causes, the row as of a time, and one timeline of all that was heard of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import request
from werkzeug.exceptions import BadRequest, NotFound

from service.model_fields import FIELDS
from service.storage import console_models, history
from service.storage import events as event_storage
from service.storage import models as storage
from service.web.console import arguments, copies
from service.web.console.tail import change_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Blueprint
    from sqlalchemy import Connection

    from service.web.console.console import Console

PAGE_SIZE = 50
COLUMNS = ("id", *(field.column for field in FIELDS), "deleted_at", "observed_at", "updated_at", "erased_at")


def find(connection: Connection, model_id: str) -> Mapping[str, Any]:
    """The row of a model.

    Raises:
        NotFound: it has none.
    """
    # Postgres takes no text with a NUL.
    row = None if "\0" in model_id else storage.read(connection, [model_id]).get(model_id)
    if row is None:
        raise NotFound(f"The mirror has never seen a model {model_id!r}. The page Models finds it by its name.")
    return row


def register(pages: Blueprint, console: Console) -> None:
    """Add the page."""
    web = (console.settings.public_url or "http://localhost:8000").rstrip("/")

    def model(model_id: str) -> str:
        at = arguments.moment("at")
        with console.reading() as connection:
            row = find(connection, model_id)
            steps, older = _timeline(connection, model_id)
            origins = history.origins(connection, model_id)
            past = console_models.as_of(connection, model_id, at) if at else None
            matters = console_models.open_matters(connection, model_id)
        return console.render(
            "model.html",
            model=row,
            columns=COLUMNS,
            origins=origins,
            at=at,
            past=past,
            matters=matters,
            steps=steps,
            older=older,
            failure=_failure(row, steps),
            copies=copies.of_model(model_id, web),
        )

    pages.get("/models/<path:model_id>", merge_slashes=False)(model)


def _timeline(connection: Connection, model_id: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A page of what was heard of a model, the newest first, and the parameters of the page after it.

    Changes and the events that changed nothing are two lists, each in an order of its own: so a page ends at a place in
    each of them.
    """
    change_id, event_id = arguments.number("change"), request.args.get("event", "").replace("\0", "")
    event_at = None
    if event_id:
        last_event = event_storage.one(connection, event_id)
        if last_event is None:
            raise BadRequest("The event at which this page began was deleted: begin with the newest.")
        event_at = last_event["received_at"]
    changes = history.page(connection, change_id, PAGE_SIZE + 1, model_id=model_id)
    events = console_models.quiet_events(connection, model_id, event_at, event_id, PAGE_SIZE + 1)
    both = [
        {"at": one["recorded_at"], "key": change_key(one["id"], one["event_id"]), "change": one, "event": None}
        for one in changes
    ]
    both += [{"at": one["received_at"], "key": one["id"], "change": None, "event": one} for one in events]
    both.sort(key=lambda step: step["at"], reverse=True)
    steps = both[:PAGE_SIZE]
    if len(both) <= PAGE_SIZE:
        return steps, None
    shown_changes = [step["change"]["id"] for step in steps if step["change"]]
    shown_events = [step["event"]["id"] for step in steps if step["event"]]
    return steps, {
        "change": shown_changes[-1] if shown_changes else change_id,
        "event": shown_events[-1] if shown_events else event_id or None,
    }


def _failure(row: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The change by which a model failed that is failed now; None where it is not, or on an older page."""
    if row["status"] != "failed":
        return None
    return next((step["change"] for step in steps if step["change"] and step["change"]["to_status"] == "failed"), None)
