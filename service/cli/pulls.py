"""`headshot-mirror pulls`."""

from __future__ import annotations

import click

from service import config
from service.cli.output import json_option, print_rows

COLUMNS = (
    "id", "kind", "status", "started_at", "finished_at", "requests", "pages", "models_seen", "inserted", "changed",
    "tombstoned", "missed_webhooks", "error",
)  # fmt: skip


@click.group()
def pulls() -> None:
    """Look at pulls."""


@pulls.command("list", epilog="Example: headshot-mirror pulls list --kind full --limit 5")
@click.option("--kind", type=click.Choice(["full", "hot"]), help="Only this kind.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@json_option
def list_(kind: str | None, limit: int, *, as_json: bool) -> None:
    """The newest pulls, what each cost and found."""
    from service.storage import database
    from service.storage import pulls as storage

    settings = config.load(("DATABASE_URL",))
    with database.transaction(database.connect(settings.postgres_url)) as connection:
        rows = storage.listed(connection, kind=kind, limit=limit)
    print_rows(rows, COLUMNS, as_json=as_json)
