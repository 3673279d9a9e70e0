"""`headshot-mirror events`."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from service.cli.moments import TIME_HELP, Moment
from service.cli.opening import current_actor, load_settings, open_engine, reading
from service.cli.output import format_value, json_option, print_json, say, warn_if_unknown
from service.cli.table import print_rows
from service.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from service.storage.console_events import EventSearch

COLUMNS = ("id", "event", "status", "model_id", "received_at", "deliveries", "error")
REPLAY_COLUMNS = ("id", "before", "after", "error")


@click.group(epilog="Example: headshot-mirror events list --status dead")
def events() -> None:
    """Show webhook events, and replay them."""


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that select events; the command gets an `EventSearch`."""

    @wraps(command)
    def chosen(
        status: str | None, event: str | None, model_id: str | None, since: datetime | None, until: datetime | None,
        **rest: Any,
    ) -> None:  # fmt: skip
        from service.storage.console_events import EventSearch

        command(search=EventSearch(event, status, model_id, since=since, until=until), **rest)

    for option in reversed(
        (
            click.option(
                "--status", type=click.Choice(["applied", "stale", "ignored", "dead"]), help="With this status."
            ),
            click.option("--event", help="Of this name, such as model.deleted."),
            click.option("--model", "model_id", help="About one model."),
            click.option("--since", type=Moment(), help=f"Received then or later: {TIME_HELP}."),
            click.option("--until", type=Moment(), help="Received before this time."),
        )
    ):
        chosen = option(chosen)
    return chosen


@events.command("list", epilog="Example: headshot-mirror events list --status dead --json")
@selection_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
def list_(search: EventSearch, limit: int, *, as_json: bool) -> None:
    """The newest events and their status."""
    from service.storage import console_events as storage

    with reading() as connection:
        rows = storage.page(connection, search, None, limit)
    if not rows:
        _warn_if_unknown(search)
    print_rows(rows, COLUMNS, as_json=as_json, empty="No events.")


@events.command(epilog="Example: headshot-mirror events show evt_6f1c…")
@click.argument("event_id")
@json_option
def show(event_id: str, *, as_json: bool) -> None:
    """One event with its body, as the vendor sent it, without login links."""
    from service.storage import events as storage
    from service.upstream.login_links import remove_login_links

    with reading() as connection:
        event = storage.one(connection, event_id)
    if event is None:
        raise MirrorError(f"there is no event {event_id}; `headshot-mirror events list` shows the newest")
    # Events that an older release stored may hold one still.
    event["payload"] = remove_login_links(event["payload"])
    if as_json:
        print_json(event)
        return
    for name, value in event.items():
        if name != "payload":
            say(f"{name:<13} {format_value(value)}")
    print_json(event["payload"])


@events.command(epilog="Example: headshot-mirror events replay --status dead")
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")
@selection_options
@json_option
def replay(event_ids: tuple[str, ...], search: EventSearch, *, as_json: bool) -> None:
    """Merge kept events again, by the same rules: the given ones, or all that the options select.

    It is safe: newer values stay. Exit status 1 when an event is still dead.
    """
    from service.mirror.replay import ACTION
    from service.mirror.replay import replay as merge_again
    from service.storage import audit

    if not event_ids and not any(search):
        raise click.UsageError("name the events by ids, or by options such as --status dead")
    tolerance = load_settings(("DATABASE_URL",)).webhook_tolerance
    engine, act = open_engine(), audit.Act(current_actor(), ACTION, detail={**search.document})
    if event_ids:
        act.detail["ids"] = list(event_ids)
    with audit.recorded(engine, act):
        rows = [one._asdict() for one in merge_again(engine, search, tolerance, event_ids or None)]
        act.detail["replayed"] = len(rows)
    if not rows:
        _warn_if_unknown(search)
    print_rows(rows, REPLAY_COLUMNS, as_json=as_json, empty="No events.")
    missing = sorted(set(event_ids) - {row["id"] for row in rows})
    for event_id in missing:
        say(f"headshot-mirror: there is no event {event_id}, or the options leave it out", err=True)
    if missing or any(row["after"] == "dead" for row in rows):
        raise click.exceptions.Exit(1)


def _warn_if_unknown(search: EventSearch) -> None:
    from service.mirror.observe import EVENTS

    warn_if_unknown("event", search.event, EVENTS)
