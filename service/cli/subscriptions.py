"""`headshot-mirror subscriptions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from service.cli.moments import TIME_HELP, MomentText
from service.cli.opening import configure_log, current_actor, load_settings, open_engine, reading
from service.cli.output import confirm, format_value, json_option, print_json, say, yes_option
from service.cli.table import print_rows
from service.errors import ApiError, MirrorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.subscriptions.commands import SubscriptionCommands

COLUMNS = (
    "name", "state", "failing_since", "failed_reason", "url", "cursor", "waiting", "unread", "delivered",
    "delivered_at", "failed_at", "reason",
)  # fmt: skip
DELIVERY_COLUMNS = ("change_id", "model_id", "attempts", "first_failed_at", "due_at", "status", "error")
REQUEST_COLUMNS = ("at", "change_id", "changes", "attempt", "status", "ms", "error")
SHOWN_DELIVERIES = 20
T = TypeVar("T")


@click.group(epilog="Example: headshot-mirror subscriptions add orders https://orders.internal/hooks --status active")
def subscriptions() -> None:
    """Send changes to your services as signed webhooks."""


@subscriptions.command(epilog="Example: headshot-mirror subscriptions add orders https://orders.internal/hooks")
@click.argument("name")
@click.argument("url")
@click.option("--status", "statuses", multiple=True, help="Only changes to this status; may be repeated.")
@click.option("--team", "teams", multiple=True, help="Only changes of models in this team; may be repeated.")
@click.option("--with-personal-data", is_flag=True, help="Send names, addresses and genders, too.")
@click.option("--batch", type=click.IntRange(1, 100), help="Send up to this many changes in one request, as a list.")
@json_option
def add(
    name: str, url: str, statuses: tuple[str, ...], teams: tuple[str, ...], batch: int | None,
    *, with_personal_data: bool, as_json: bool,
) -> None:  # fmt: skip
    """Add a subscription: the service is sent each change from now on. Prints the signing secret, once."""
    from service.subscriptions.commands import SubscriptionBody

    wanted = SubscriptionBody(
        name=name, url=url, statuses=statuses, teams=teams, with_personal_data=with_personal_data, batch=batch
    )
    secret = _act(name, lambda commands: commands.add(wanted))
    if as_json:
        print_json({"name": name, "url": url, "secret": secret})
        return
    say(f"{name} is sent what changes from now on. Its secret, which is not shown again:")
    say(secret)


@subscriptions.command("list", epilog="Example: headshot-mirror subscriptions list --json")
@json_option
def list_(*, as_json: bool) -> None:
    """Subscriptions, and how far each is."""
    from service.storage import subscriptions as storage

    with reading() as connection:
        rows = storage.list_rows(connection)
    print_rows(rows, COLUMNS, as_json=as_json, empty="No subscriptions.")


@subscriptions.command(epilog="Example: headshot-mirror subscriptions show orders")
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """One subscription, the first changes that it has not acknowledged, and its newest requests."""
    from service.storage import subscriptions as storage

    with reading() as connection:
        row = storage.one(connection, name)
        deliveries = storage.list_deliveries(connection, row["id"], SHOWN_DELIVERIES) if row else []
        requests = storage.list_recent_requests(connection, row["id"]) if row else []
    if row is None:
        raise _missing(name)
    if as_json:
        print_json({**row, "deliveries": deliveries, "recent_requests": requests})
        return
    for column, value in row.items():
        say(f"{column:<22} {format_value(value)}".rstrip())
    say()
    print_rows(deliveries, DELIVERY_COLUMNS, as_json=False, empty="No change waits for an acknowledgement.")
    say()
    print_rows(requests, REQUEST_COLUMNS, as_json=False, empty="No request was sent yet.")


@subscriptions.command(epilog="Example: headshot-mirror subscriptions test orders")
@click.argument("name")
@json_option
def test(name: str, *, as_json: bool) -> None:
    """Send a signed test request, of type `subscription.test`, and print what came back; exit 1 if it was not taken."""
    settings = load_settings(("DATABASE_URL",))
    configure_log(settings)
    outcome = _act(name, lambda commands: commands.send_test(name, settings))
    row: dict[str, Any] = {"name": name, "taken": outcome.taken, "status": outcome.status, "error": outcome.error}
    print_rows([row], tuple(row), as_json=as_json, empty="")
    if not outcome.taken:
        raise click.exceptions.Exit(1)


@subscriptions.command(epilog="Example: headshot-mirror subscriptions pause orders")
@click.argument("name")
def pause(name: str) -> None:
    """Send nothing until it is resumed; its cursor stays, and no change is lost."""
    _act(name, lambda commands: commands.pause(name))
    say(f"{name} is paused; requests in flight still end.")


@subscriptions.command(epilog="Example: headshot-mirror subscriptions resume orders")
@click.argument("name")
def resume(name: str) -> None:
    """Go on from the cursor, at once: also where it is failing or disabled."""
    _act(name, lambda commands: commands.resume(name))
    say(f"{name} is active.")


@subscriptions.command(epilog="Example: headshot-mirror subscriptions replay orders --since 2d")
@click.argument("name")
@click.option(
    "--since", type=MomentText(or_id=True), help=f"The first change's id, or {TIME_HELP}; else all kept ones."
)
def replay(name: str, since: str | None) -> None:
    """Send changes again, as requests with new ids; also where it is failing or disabled."""
    first = _act(name, lambda commands: commands.replay(name, since))
    say(f"{name} is sent every change from {first} on.")


@subscriptions.command(epilog="Example: headshot-mirror subscriptions rotate orders")
@click.argument("name")
@json_option
def rotate(name: str, *, as_json: bool) -> None:
    """Make a new signing secret and print it, once; for 24 hours the present one signs, too."""
    secret = _act(name, lambda commands: commands.rotate(name))
    if as_json:
        print_json({"name": name, "secret": secret})
        return
    say(f"Both secrets of {name} sign for 24 hours. The new one, which is not shown again:")
    say(secret)


@subscriptions.command(epilog="Example: headshot-mirror subscriptions remove orders")
@click.argument("name")
@yes_option
def remove(name: str, *, yes: bool) -> None:
    """Remove a subscription with its cursor, and with all that waits for it."""
    confirm(f"Remove the subscription {name}? Its place in the feed is lost.", yes=yes)
    _act(name, lambda commands: commands.remove(name))
    say(f"{name} is removed.")


def _act(name: str, act: Callable[[SubscriptionCommands], T]) -> T:
    """Do an act on a subscription; where none has the name, the error says how to see their names."""
    from service.subscriptions.commands import SubscriptionCommands

    try:
        return act(SubscriptionCommands(open_engine(), current_actor()))
    except ApiError as error:
        raise _missing(name) if error.status == 404 else error from None


def _missing(name: str) -> MirrorError:
    return MirrorError(f"there is no subscription {name}; `headshot-mirror subscriptions list` shows them")
