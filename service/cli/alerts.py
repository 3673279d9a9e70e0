"""`headshot-mirror alerts`."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from service.alerts.kinds import KINDS
from service.cli.opening import configure_log, current_actor, load_settings, open_engine, reading
from service.cli.output import json_option, say
from service.cli.table import print_rows
from service.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.storage.audit import Act

# The largest bigint.
MAX_ID = 2**63 - 1

COLUMNS = ("id", "kind", "model_id", "opened_at", "detail", "resolved_at", "acknowledged_at")


@click.group(epilog="Example: headshot-mirror alerts list --open")
def alerts() -> None:
    """Show alerts, acknowledge them, try their receivers."""


@alerts.command("list", epilog="Example: headshot-mirror alerts list --open --kind model_failed --json")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not resolved.")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@json_option
def list_(kind: str | None, limit: int, *, only_open: bool, as_json: bool) -> None:
    """Open alerts, then the newest of those that are resolved."""
    from service.storage import alerts as storage

    with reading() as connection:
        rows = storage.list_rows(connection, only_open=only_open, kind=kind, limit=limit)
    print_rows(rows, COLUMNS, as_json=as_json, empty="No open alerts." if only_open else "No alerts.")


@alerts.command(epilog="Example: headshot-mirror alerts ack 17 18")
@click.argument("alert_ids", nargs=-1, type=int)
@click.option("--all", "all_", is_flag=True, help="Every open alert.")
def ack(alert_ids: tuple[int, ...], *, all_: bool) -> None:
    """Acknowledge open alerts: no reminders of them are sent any more; their end still is."""
    from service.storage import alerts as storage
    from service.storage import audit
    from service.storage.database import transaction

    if bool(alert_ids) == all_:
        raise click.UsageError("name the ids of alerts, or --all")
    # Postgres refuses a number that no id can be.
    possible = [alert_id for alert_id in alert_ids if alert_id <= MAX_ID]
    with transaction(open_engine()) as connection:
        found = storage.acknowledge(connection, None if all_ else possible)
        audit.record(connection, audit.Act(current_actor(), "alerts.acknowledge", detail={"alerts": sorted(found)}))
    say(f"{len(found)} open alert{'' if len(found) == 1 else 's'} acknowledged.")
    if missing := sorted(set(alert_ids) - found):
        raise MirrorError(
            f"not open: {', '.join(map(str, missing))}; `headshot-mirror alerts list` shows those that are"
        )


@alerts.command(epilog="Example: headshot-mirror alerts test")
@json_option
def test(*, as_json: bool) -> None:
    """Send a message to each URL of ALERT_URLS, and say what came back; exit 1 if one did not take it.

    It contains alerts that are made up, in the form and with the links of real ones. It needs no server of the mirror:
    without Postgres only the row in the audit log is missing.
    """
    from service.alerts import receivers, trial
    from service.storage import audit

    settings = load_settings(("ALERT_URLS",))
    configure_log(settings)
    targets = receivers.from_settings(settings)
    act = audit.Act(current_actor(), trial.ACTION)
    with _recorded_if_possible(act):
        rows = list(trial.send_to_each(targets, trial.message_for(settings)))
        trial.describe(act, rows)
    print_rows(rows, ("place", "receiver", "taken", "answer"), as_json=as_json, empty="No receivers.")
    if not all(row["taken"] for row in rows):
        raise click.exceptions.Exit(1)


@contextmanager
def _recorded_if_possible(act: Act) -> Iterator[None]:
    """Record an act where Postgres takes its row: receivers are tried above all while something is unavailable."""
    from service.storage import audit

    with ExitStack() as stack:
        try:
            stack.enter_context(audit.recorded(open_engine(), act))
        except MirrorError as error:
            say(f"headshot-mirror: the audit log has no row of this test: {error}", err=True)
        yield
