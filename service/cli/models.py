"""`headshot-mirror models`: what the API does, on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from service.cli.moments import TIME_HELP, MomentText
from service.cli.opening import current_actor, open_engine, open_runtime, reading
from service.cli.output import (
    confirm,
    csv_option,
    describe_source,
    format_value,
    json_option,
    print_csv,
    print_json,
    say,
    warn_if_unknown,
    yes_option,
)
from service.cli.progress import stop_on_signals
from service.cli.table import print_rows
from service.errors import ApiError, MirrorError, ModelNotFound
from service.model_fields import EXPORT_COLUMNS, STATUS_NAMES

if TYPE_CHECKING:
    from service.api.writes import RelayedResponse, UpstreamWriter
    from service.runtime import Runtime

HISTORY_COLUMNS = ("id", "recorded_at", "observed_at", "by", "changed")
UNKNOWN_OUTCOME = "stopped before HeadshotPro responded; check whether it was done before you try again"
SHOWN_COLUMNS = ("id", "status", "title", "email", "team_name", "created_at", "finished_at")


@click.group(epilog="Example: headshot-mirror models list --status failed")
def models() -> None:
    """Show, create, delete and erase models."""


@models.command("list", epilog="Example: headshot-mirror models list --status active --team team_xyz789 --csv")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="How many at most.")
@click.option("--offset", type=click.IntRange(0, 1_000_000_000), default=0, help="How many newer ones to pass over.")
@click.option("--status", help="Only this status; `deleted` shows tombstones.")
@click.option("--team", "teamId", help="Only the team with this id.")
@click.option("--email", help="Only this address.")
@click.option("--development/--no-development", "isDevelopment", default=None, help="Only test models, or only others.")
@click.option("--created-after", "createdAfter", type=MomentText(), help=f"Created then or later: {TIME_HELP}.")
@click.option("--created-before", "createdBefore", type=MomentText(), help="Created before this time.")
@click.option("--include-deleted", "includeDeleted", is_flag=True, help="Show tombstones too.")
@click.option(
    "--updated-since",
    "updatedSince",
    type=MomentText(or_id=True),
    help=f"In the order of their changes since a change's id, or {TIME_HELP}.",
)
@json_option
@csv_option
def list_(limit: int, offset: int, *, as_json: bool, as_csv: bool, csv_safe: bool, **filters: Any) -> None:
    """Models in the mirror, the newest first."""
    from service.api import parameters
    from service.api.reads import read_feed
    from service.api.schemas import ListQuery
    from service.storage import api_queries

    given = {name: str(value) for name, value in filters.items() if value is not None}
    try:
        query = parameters.read({**given, "offset": str(offset)}, ListQuery)
    except ApiError as error:
        raise click.UsageError(str(error)) from None
    since, wanted = parameters.since_of(query), parameters.filter_of(query)
    with reading() as connection:
        if since is None:
            total = api_queries.total(connection, wanted)
            rows = api_queries.page(connection, wanted, limit, query.offset, total)
        else:
            rows = read_feed(connection, since, wanted, limit, query.offset).rows
    if not rows:
        warn_if_unknown("status", wanted.status, STATUS_NAMES)
    if as_csv or csv_safe:
        print_csv(rows, EXPORT_COLUMNS, safe=csv_safe)
        return
    columns = EXPORT_COLUMNS if as_json else SHOWN_COLUMNS
    print_rows([{name: row[name] for name in columns} for row in rows], columns, as_json=as_json, empty="No models.")


@models.command(epilog="Example: headshot-mirror models show 507f1f77bcf86cd799439011 --explain")
@click.argument("model_id")
@click.option("--explain", is_flag=True, help="Say which observation set each field, and when.")
@json_option
def show(model_id: str, *, explain: bool, as_json: bool) -> None:
    """One model as the mirror holds it, and its history."""
    from service.storage import history
    from service.storage import models as storage

    with reading() as connection:
        row = storage.read(connection, [model_id]).get(model_id)
        changes = history.page(connection, model_id=model_id)
        origins = history.origins(connection, model_id) if explain else {}
    if row is None:
        raise MirrorError(f"the mirror has never seen a model {model_id}")
    if as_json:
        document = {**row, "history": changes}
        print_json({**document, "explain": origins} if explain else document)
        return
    for name, value in row.items():
        origin = origins.get(name)
        source = f"by {describe_source(origin)}, as of {format_value(origin['observed_at'])}" if origin else ""
        say(f"{name:<18} {format_value(value):<40} {source}".rstrip())
    say()
    rows = [{**change, "by": describe_source(change), "changed": _changed(change)} for change in changes]
    print_rows(rows, HISTORY_COLUMNS, as_json=False, empty="No changes.")


@models.command(epilog="Example: headshot-mirror models erase 507f1f77bcf86cd799439011")
@click.argument("model_id")
@yes_option
def erase(model_id: str, *, yes: bool) -> None:
    """Erase the personal data of a deleted model now: its name, address, gender, events and old values, for ever."""
    from service.mirror.erasure import erase_now, require_deleted
    from service.storage.database import transaction

    engine = open_engine()
    with transaction(engine) as connection:
        row = require_deleted(connection, model_id)
    confirm(
        f"Erase the personal data of {model_id} ({row['title'] or 'no title'}) for good: name, address, gender, the "
        "bodies of its events and its old values?",
        yes=yes or row["erased_at"] is not None,
    )
    erased = erase_now(engine, model_id, current_actor())
    say(f"{model_id} {'is erased' if erased else 'was erased before'}")


def _changed(change: dict[str, Any]) -> str:
    return ", ".join(_describe_pair(name, old, new) for name, (old, new) in change["changed"].items())


def _describe_pair(name: str, old: Any, new: Any) -> str:
    if old is None and new is None:
        # A change has two values that differ, until both are erased.
        return f"{name} erased"
    return f"{name} {format_value(old)} → {format_value(new)}"


@models.command(epilog="Example: headshot-mirror models create ada@example.com --team team_xyz789")
@click.argument("email")
@click.option("--team", "team_id", help="Id of the team to assign the person to.")
@click.option("--development", is_flag=True, help="The vendor's test mode: fast, and no credit is spent.")
@click.option("--idempotency-key", help="The same key creates once within 24 hours.")
@json_option
def create(email: str, team_id: str | None, idempotency_key: str | None, *, development: bool, as_json: bool) -> None:
    """Make a model (whitelabel organizations only); prints the link that logs the person in."""
    from service.api.idempotency import IdempotentCreates
    from service.api.schemas import CreateModelBody
    from service.storage.idempotency import IdempotencyKey

    runtime = open_runtime()
    stop_on_signals(runtime, after_change=UNKNOWN_OUTCOME)
    writer = _writer(runtime)
    wanted = CreateModelBody(email=email, team_id=team_id, is_development=development)
    if idempotency_key:
        # No caller of the HTTP API has this scope: theirs are digests.
        place = IdempotencyKey("command line", idempotency_key)
        response = IdempotentCreates(writer).create(wanted, place, current_actor())
    else:
        response = writer.create(wanted, current_actor())
    _print_response(response, as_json=as_json)


@models.command(epilog="Example: headshot-mirror models delete 507f1f77bcf86cd799439011")
@click.argument("model_id")
@yes_option
@json_option
def delete(model_id: str, *, yes: bool, as_json: bool) -> None:
    """Delete a model upstream, for good; the mirror keeps a tombstone."""
    from service.storage import models as storage
    from service.storage.database import transaction

    runtime = open_runtime()
    if not yes:
        with transaction(runtime.engine) as connection:
            row = storage.read(connection, [model_id]).get(model_id)
        known = f"{row['title'] or 'no title'}, {row['status']}" if row else "the mirror has never seen it"
        confirm(f"Delete {model_id} ({known}) for good?", yes=yes)
    stop_on_signals(runtime, after_change=UNKNOWN_OUTCOME)
    try:
        response = _writer(runtime).delete(model_id, current_actor())
    except ModelNotFound:
        raise MirrorError(f"HeadshotPro has no model {model_id}") from None
    _print_response(response, as_json=as_json)


def _writer(runtime: Runtime) -> UpstreamWriter:
    from service.api.writes import UpstreamWriter

    return UpstreamWriter(runtime.engine, runtime.client, runtime.queue, runtime.stale_models)


def _print_response(response: RelayedResponse, *, as_json: bool) -> None:
    """The upstream's response, under the names of the API."""
    import msgspec

    document = msgspec.json.decode(response.body)
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        if name != "success":
            say(f"{name:<10} {format_value(value)}")
