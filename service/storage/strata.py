"""The strata of the mirror in SQL, as `service.mirror.accuracy.stratum_of` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage import queries

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

# Each row of `models` fulfills one; `:since` is the time after which one that became active is new. A model whose
# status is unknown, or not in the vendor's documents, may still change. An index serves ranges, but not `<>`.
CONDITIONS = {
    "tombstone": "status = 'deleted'",
    "active_new": "status = 'active' AND coalesce(finished_at, created_at) > :since",
    "active_old": "status = 'active' AND coalesce(coalesce(finished_at, created_at) <= :since, true)",
    "moving": "(status < 'active' OR (status > 'active' AND status < 'deleted') OR status > 'deleted'"
    " OR status IS NULL)",
}
_CASES = " ".join(f"WHEN {condition} THEN '{stratum}'" for stratum, condition in CONDITIONS.items())
_SIZES = f"SELECT CASE {_CASES} END AS stratum, count(*) FROM headshotpro.models GROUP BY 1"  # noqa: S608 - constants


def sizes(connection: Connection, active_new_since: datetime) -> dict[str, int]:
    """How many rows of the mirror each stratum has."""
    return {row[0]: row[1] for row in queries.execute(connection, _SIZES, since=active_new_since)}
