"""`headshot-mirror pulls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.cli.opening import configure_log, current_actor, load_settings, open_engine, open_runtime, reading
from service.cli.output import confirm, json_option, say, yes_option
from service.cli.progress import stop_on_signals
from service.cli.pull import describe_decision, describe_postponed
from service.cli.table import print_rows
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.runtime import Runtime
    from service.storage.organization import MirroredOrganization

COLUMNS = (
    "id", "kind", "status", "started_at", "finished_at", "error", "requests", "pages", "models_seen", "inserted",
    "changed", "tombstoned", "missed_webhooks", "late_webhooks", "lost_webhooks", "rows_compared", "rows_differed",
    "set_aside",
)  # fmt: skip


@click.group(epilog="Example: headshot-mirror pulls list --kind full")
def pulls() -> None:
    """Show pulls, and decide about those that are held."""


@pulls.command("list", epilog="Example: headshot-mirror pulls list --kind full --limit 5")
@click.option("--kind", type=click.Choice(["full", "hot"]), help="Only this kind.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@json_option
def list_(kind: str | None, limit: int, *, as_json: bool) -> None:
    """The newest pulls, what each cost and found; then how to decide about each that is held."""
    from service.storage import pulls as storage

    with reading() as connection:
        rows = storage.list_rows(connection, kind=kind, limit=limit)
        # Newer pulls may have pushed it out of the list.
        held = storage.page(connection, None, "held", None, storage.MAX_PART)
    print_rows(rows, COLUMNS, as_json=as_json, empty="No pulls.")
    for row in held:
        # Beside a table that may be piped.
        say(f"Pull {row['id']} is held: {describe_decision(row)}.", err=True)


@pulls.command(epilog="Example: headshot-mirror pulls release 17")
@click.argument("pull_id", type=int)
@click.option(
    "--adopt-organization", "adopted", metavar="UID", help="From now on mirror this organization in this database."
)
@yes_option
def release(pull_id: int, adopted: str | None, *, yes: bool) -> None:
    """Let a held pull be decided: each suspect by a single GET; then the pull is complete.

    A pull that is held because the API key belongs to another organization needs --adopt-organization with the uid of
    that one: the database is then the mirror of that organization, and nothing but a backup undoes it.
    """
    from service.mirror import held_pulls
    from service.storage import pulls as storage
    from service.storage.database import transaction

    runtime = open_runtime()
    row = held_pulls.require_held(runtime.engine, pull_id)
    if row["pages"] == 0:
        _switch_organization(runtime, pull_id, adopted, yes=yes)
        return
    if adopted is not None:
        raise click.UsageError(f"pull {pull_id} is held for its suspects: release it without --adopt-organization")
    stop_on_signals(runtime, "stopped; what was decided stays decided, and the pull is still held")
    tombstoned = held_pulls.release(runtime.engine, runtime.client, runtime.requests_sent, pull_id, current_actor())
    say(f"Pull {pull_id} is complete: {tombstoned} of its suspects were deleted.")
    with transaction(runtime.engine) as connection:
        released = storage.one(connection, pull_id)
    if released and released["postponed"]:
        say(describe_postponed(released["postponed"]))


@pulls.command(epilog="Example: headshot-mirror pulls reject 17")
@click.argument("pull_id", type=int)
def reject(pull_id: int) -> None:
    """Refuse a held pull: it has failed, and no pull decides its suspects for a day."""
    from service.mirror import held_pulls

    configure_log(load_settings())
    engine = open_engine()
    read = held_pulls.require_held(engine, pull_id)["pages"] > 0
    held_pulls.reject(engine, pull_id, current_actor())
    say(f"Pull {pull_id} has failed; {'its suspects are left alone for a day' if read else 'it had no suspects'}.")


def _switch_organization(runtime: Runtime, pull_id: int, adopted: str | None, *, yes: bool) -> None:
    """Make the organization of the API key the mirrored one, if it is the one that a person named.

    Raises:
        SettingsError: no organization was named, or another one.
        MirrorError: another full pull is running.
    """
    from service.mirror.held_pulls import switch_organization
    from service.storage import organization, status_report
    from service.storage.database import transaction
    from service.storage.organization import MirroredOrganization
    from service.upstream.budget import Priority

    seen = runtime.client.organization(priority=Priority.REFETCH).body
    of_key = MirroredOrganization(seen.uid, seen.name if isinstance(seen.name, str) else None)
    with transaction(runtime.engine) as connection:
        mirrored = organization.read(connection)
        models = status_report.snapshot(connection).models
    if mirrored is None or of_key.uid != mirrored.uid:
        if adopted != of_key.uid:
            raise SettingsError(_explain_organizations(pull_id, of_key, mirrored, adopted))
        living = sum(count for status, count in models.items() if status != "deleted")
        say(
            f"This database mirrors {mirrored}, with {living} models that are not deleted. It will mirror {of_key}: "
            f"pull {pull_id} adds the models of {of_key.uid}, and pulls then delete those of the old organization that "
            "the new one does not have. Only a backup brings the present state back.",
            err=True,
        )
        confirm(f"Hand this database over to {of_key}?", yes=yes)
    switch_organization(runtime.engine, pull_id, of_key, adopted, current_actor())
    say(f"This database mirrors organization {of_key} now; the workers go on with pull {pull_id}.")


def _explain_organizations(
    pull_id: int, of_key: MirroredOrganization, mirrored: MirroredOrganization | None, adopted: str | None
) -> str:
    named = "" if adopted is None else f", not to {adopted}"
    return (
        f"HEADSHOTPRO_API_KEY belongs to organization {of_key}{named}, and this database mirrors {mirrored}. If the "
        f"key is wrong, correct it and run `headshot-mirror pulls reject {pull_id}`. If this database is to mirror "
        f"{of_key} from now on, run `headshot-mirror pulls release {pull_id} --adopt-organization {of_key.uid}`"
    )
