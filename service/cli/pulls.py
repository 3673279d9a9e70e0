"""`headshot-mirror pulls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.opening import load_settings, open_engine, open_runtime, reading
from service.cli.output import json_option, print_rows, say
from service.cli.progress import stop_on_signals
from service.cli.pull import describe_postponed
from service.errors import MirrorError

if TYPE_CHECKING:
    from service.runtime import Runtime

COLUMNS = (
    "id", "kind", "status", "started_at", "finished_at", "requests", "pages", "models_seen", "inserted", "changed",
    "tombstoned", "missed_webhooks", "set_aside", "error",
)  # fmt: skip


@click.group(epilog="Example: headshot-mirror pulls list --kind full")
def pulls() -> None:
    """Look at pulls, and decide about those that are held."""


@pulls.command("list", epilog="Example: headshot-mirror pulls list --kind full --limit 5")
@click.option("--kind", type=click.Choice(["full", "hot"]), help="Only this kind.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@json_option
def list_(kind: str | None, limit: int, *, as_json: bool) -> None:
    """The newest pulls, what each cost and found."""
    from service.storage import pulls as storage

    with reading() as connection:
        rows = storage.list_rows(connection, kind=kind, limit=limit)
    print_rows(rows, COLUMNS, as_json=as_json)


@pulls.command(epilog="Example: headshot-mirror pulls release 17")
@click.argument("pull_id", type=int)
def release(pull_id: int) -> None:
    """Let a held pull be decided: each suspect by a single GET; then the pull is complete.

    A pull that was held because the API key belongs to another organization begins anew: that organization is the
    mirrored one from now on.
    """
    from service.mirror import deletions
    from service.storage import pulls as storage
    from service.storage.database import transaction

    runtime = open_runtime()
    stop_on_signals(runtime, "stopped; what was decided stays decided, and the pull is still held")
    row = deletions.require_held(runtime.engine, pull_id)
    if row["pages"] == 0:
        _switch_organization(runtime, pull_id)
        return
    tombstoned = deletions.release(runtime.engine, runtime.client, runtime.requests_sent, pull_id)
    say(f"Pull {pull_id} is complete: {tombstoned} of its suspects were deleted.")
    with transaction(runtime.engine) as connection:
        released = storage.one(connection, pull_id)
    if released and released["postponed"]:
        say(describe_postponed(released["postponed"]))


@pulls.command(epilog="Example: headshot-mirror pulls reject 17")
@click.argument("pull_id", type=int)
def reject(pull_id: int) -> None:
    """Refuse a held pull: it has failed, and no pull decides its suspects for a day."""
    from service import log
    from service.mirror import deletions

    log.configure(load_settings())
    deletions.reject(open_engine(), pull_id)
    say(f"Pull {pull_id} has failed; its suspects are left alone for a day.")


def _switch_organization(runtime: Runtime, pull_id: int) -> None:
    from service.mirror.deletions import reopen
    from service.upstream.budget import Priority

    organization = runtime.client.organization(priority=Priority.REFETCH).body.uid
    if not reopen(runtime.engine, pull_id, organization):
        raise MirrorError("another full pull is running: try again when it has ended")
    say(f"This database mirrors organization {organization} now; the workers go on with pull {pull_id}.")
