"""A database that was restored from a dump must not use ids a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import SettingsError
from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

# More ids than are used between a dump and its restoring; nine thousand million such steps fit.
STEP = 1_000_000_000

_REFUSED = """
    SELECT sequencename FROM pg_sequences WHERE schemaname = 'headshotpro'
        AND NOT has_sequence_privilege(format('%I.%I', schemaname, sequencename), 'UPDATE')
"""
_ADVANCE = """
    SELECT sequencename, setval(
        format('%I.%I', schemaname, sequencename)::regclass, (coalesce(last_value, 0) / :step + 1) * :step
    )
    FROM pg_sequences WHERE schemaname = 'headshotpro'
"""


def advance_sequences(connection: Connection) -> int:
    """Let every sequence continue behind each id that may have been used after the dump was made.

    A reader of `model_changes` may have seen numbers that the dump does not know. Given out again, for other changes,
    they would lie behind the place where that reader goes on.

    Returns:
        The number behind which `model_changes` goes on.

    Raises:
        SettingsError: this user may not do it.
    """
    if refused := queries.column(connection, _REFUSED):
        raise SettingsError(
            f"the user of DATABASE_URL may not change {refused[0]}: run this as the user that runs `migrate`"
        )
    moved = {row.sequencename: row.setval for row in queries.execute(connection, _ADVANCE, step=STEP)}
    return int(moved["model_changes_id_seq"])
