"""The pages *Events*, with dead events by their reason, and *Event*: its body, its deliveries and what it changed."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flask import request
from werkzeug.exceptions import BadRequest, NotFound

from service.mirror.preview import preview
from service.storage import console_events, history
from service.storage import events as storage
from service.storage.console_events import EventPlace, EventSearch
from service.upstream.login_links import remove_login_links
from service.web.console import arguments
from service.web.console.presentation import pretty_json

if TYPE_CHECKING:
    from flask import Blueprint

    from service.web.console.console import Console

MAX_CHANGES = 20
PAGE_SIZE = 50
MAX_REASONS = 20
STATUSES = ("applied", "stale", "ignored", "dead")
# A text is looked for in every body of the time, so a page without a time means a day.
DEFAULT_SEARCH = timedelta(days=1)


def register(pages: Blueprint, console: Console) -> None:
    """Add both pages."""

    def events() -> str:
        search = _search(shows_names=console.names.shown)
        place = arguments.timed_place()
        before = EventPlace(*place) if place else None
        with console.reading() as connection:
            found = console_events.page(connection, search, before, PAGE_SIZE + 1)
            reasons = [] if before else console_events.dead_by_reason(connection, MAX_REASONS)
            names = console_events.names(connection)
        last = found[PAGE_SIZE - 1] if len(found) > PAGE_SIZE else None
        return console.render(
            "events.html",
            events=found[:PAGE_SIZE],
            older=last and arguments.place_of(last["received_at"], last["id"]),
            reasons=reasons,
            names=sorted({*names, search.event} - {None}),
            statuses=STATUSES,
            search=search,
            matching=search.replay_query,
            is_search_limited=search.words is not None and arguments.moment("since") is None,
        )

    def event(event_id: str) -> str:
        with console.reading() as connection:
            row = storage.one(connection, event_id) if "\0" not in event_id else None
            if row is None:
                raise NotFound(f"There is no event {event_id!r}: it never came, or EVENT_RETENTION_DAYS have passed.")
            cause = {"model_id": row["model_id"], "event_id": event_id}
            changes = history.page(connection, None, MAX_CHANGES, **cause) if row["model_id"] else []
            foreseen = preview(connection, row, console.settings.webhook_tolerance)
        # Events that an older release stored may hold a login link still.
        body = console.names.body(remove_login_links(row["payload"]))
        return console.render(
            "event.html",
            event=row,
            changes=changes,
            preview=foreseen,
            body=None if body is None else pretty_json(body),
            replay=shlex.join(["headshot-mirror", "events", "replay", "--", event_id]),
        )

    pages.get("/events")(events)
    # Ids come from outside: they may hold any character.
    pages.get("/events/<path:event_id>", merge_slashes=False)(event)


def _search(*, shows_names: bool) -> EventSearch:
    """The search that the URL asks for.

    Raises:
        BadRequest: a parameter cannot be read, or the search would show whom a body names.
    """
    words, since = arguments.text("q"), arguments.moment("since")
    if words and not shows_names:
        raise BadRequest("Bodies cannot be searched while names are hidden (CONSOLE_SHOW_NAMES=0).")
    if words and since is None:
        try:
            since = (arguments.moment("until") or datetime.now(UTC)) - DEFAULT_SEARCH
        except OverflowError:
            raise BadRequest("`until` is too early.") from None
    return EventSearch(
        arguments.text("event"),
        arguments.choice("status", STATUSES),
        arguments.text("model"),
        # The reason of a dead event may be longer than what people type.
        request.args.get("error", "").replace("\0", "") or None,
        words,
        since,
        arguments.moment("until"),
    )
