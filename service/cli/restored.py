"""`headshot-mirror restored`."""

from __future__ import annotations

import click

from service.cli.opening import open_engine
from service.cli.output import say


@click.command(epilog="Example: pg_restore … && headshot-mirror migrate && headshot-mirror restored")
def restored() -> None:
    """Make a database that was just restored from a dump fit for use.

    The numbers of changes, pulls, alerts and notifications go on behind all that were given out since the dump, so that
    readers of model_changes miss nothing. It does no harm to run it again.
    """
    from service.storage.database import transaction
    from service.storage.restoring import advance_sequences

    with transaction(open_engine()) as connection:
        number = advance_sequences(connection)
    say(f"model_changes goes on behind {number}. Start everything, then: headshot-mirror pull, verify.")
