"""`headshot-mirror migrate`."""

from __future__ import annotations

import click

from service import config
from service.cli.output import say

EPILOG = """\b
Examples:
  headshot-mirror migrate
  headshot-mirror migrate --sql > schema.sql
  headshot-mirror migrate --sql --from 0001_first | psql "$DATABASE_URL"
"""


@click.command(epilog=EPILOG)
@click.option(
    "--sql", is_flag=True, help="Print the SQL instead of running it; without --from, the SQL for an empty database."
)
@click.option("--from", "since", metavar="REVISION", help="With --sql: print the SQL that follows this revision.")
def migrate(*, sql: bool, since: str | None) -> None:
    """Bring the database's schema to the newest revision.

    Safe to run while the old code serves, and from several places at once: one works, the others wait. It waits for a
    lock no longer than two seconds at a time, and tries again for half an hour.
    """
    from service.storage.migrations import schema
    from service.storage.migrations.revision import revisions

    if since is not None and not sql:
        raise click.UsageError("--from needs --sql; without --sql the revision is read from the database")
    if since is not None and since not in revisions():
        raise click.UsageError(f"there is no revision {since}; there are {', '.join(revisions())}")
    if sql:
        say(schema.script(since), lines=True)
        return
    settings = config.load(("DATABASE_URL",))
    revision = schema.migrate(settings.postgres_url, report=lambda line: say(line, err=True))
    say(f"The schema is at revision {revision}.")
