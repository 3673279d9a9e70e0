"""`headshot-mirror migrate`."""

from __future__ import annotations

import click

from service import config


@click.command(epilog="Example: headshot-mirror migrate --sql > schema.sql")
@click.option("--sql", is_flag=True, help="Print the SQL for an empty database instead of running it.")
def migrate(*, sql: bool) -> None:
    """Bring the database's schema to the newest revision.

    Safe to run while the old code serves, and from several places at once: one works, the others wait.
    """
    from service.storage import schema

    if sql:
        click.echo(schema.script())
        return
    settings = config.load(("DATABASE_URL",))
    revision = schema.migrate(settings.postgres_url, tell=lambda skipped: click.echo(skipped, err=True))
    click.echo(f"The schema is at revision {revision}.")
