"""`headshot-mirror events`."""

from __future__ import annotations

import click

from service.cli.opening import reading
from service.cli.output import json_option, print_json, print_rows, shown
from service.errors import MirrorError

COLUMNS = ("id", "event", "model_id", "status", "received_at", "deliveries", "error")


@click.group(epilog="Example: headshot-mirror events list --status dead")
def events() -> None:
    """Look at webhook events."""


@events.command("list", epilog="Example: headshot-mirror events list --status dead --json")
@click.option("--status", type=click.Choice(["applied", "stale", "ignored", "dead"]), help="Only this status.")
@click.option("--model", "model_id", help="Only those of one model.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
def list_(status: str | None, model_id: str | None, limit: int, *, as_json: bool) -> None:
    """The newest events and what became of them."""
    from service.storage import events as storage

    with reading() as connection:
        rows = storage.listed(connection, status=status, model_id=model_id, limit=limit)
    print_rows(rows, COLUMNS, as_json=as_json)


@events.command(epilog="Example: headshot-mirror events show evt_6f1c…")
@click.argument("event_id")
@json_option
def show(event_id: str, *, as_json: bool) -> None:
    """One event with its body, as the vendor sent it."""
    from service.storage import events as storage

    with reading() as connection:
        event = storage.one(connection, event_id)
    if event is None:
        raise MirrorError(f"there is no event {event_id}; `headshot-mirror events list` shows the newest")
    if as_json:
        print_json(event)
        return
    for name, value in event.items():
        if name != "payload":
            click.echo(f"{name:<13} {shown(value)}")
    print_json(event["payload"])
