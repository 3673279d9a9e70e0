"""`headshot-mirror migrate` and `restored`: a database before anything else uses it."""

from __future__ import annotations

import click

from service import config
from service.cli.opening import current_actor, open_engine
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


@click.command(epilog="Example: pg_restore … && headshot-mirror migrate && headshot-mirror restored")
def restored() -> None:
    """Prepare a database that was just restored from a dump.

    New ids of changes, pulls, alerts and notifications are then greater than every id that was given out since the
    dump, so that readers of model_changes miss nothing. It is safe to run it again.
    """
    from service.storage import audit
    from service.storage.database import transaction
    from service.storage.restoring import advance_sequences

    with transaction(open_engine()) as connection:
        number = advance_sequences(connection)
        audit.record(connection, audit.Act(current_actor(), "database.restored", detail={"behind": number}))
    say(f"model_changes continues after {number}. Start everything, then run: headshot-mirror pull, verify.")
