"""`headshot-mirror restored`."""

from __future__ import annotations

import click

from service.cli.opening import current_actor, open_engine
from service.cli.output import say


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
