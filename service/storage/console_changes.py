"""Changes as people search them, for the console's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection


def page(connection: Connection, before: int | None, limit: int, **facts: str | None) -> list[dict[str, Any]]:
    """The changes with smaller ids than `before`, the newest first.

    Facts that are None narrow nothing. A rare source or status is looked for in all changes: the transaction has a
    time limit.
    """
    values: dict[str, Any] = {name: value for name, value in facts.items() if value is not None}
    # Each condition is written only where it is needed: so the planner sees which index fits.
    conditions = [f"{name} = :{name}" for name in ("model_id", "event_id", "source", "to_status") if name in values]
    if before is not None:
        conditions.append("id < :before")
        values["before"] = before
    statement = (
        f"SELECT * FROM headshotpro.model_changes WHERE {' AND '.join(conditions) or 'true'} "  # noqa: S608 - constants
        "ORDER BY id DESC LIMIT :limit"
    )
    return queries.rows(connection, statement, **values, limit=limit)
