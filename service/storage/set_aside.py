"""`set_aside`: records and fields that a pull, a GET or an event could not use, until a pull reads the model well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.model_fields import DETAIL, FIELDS
from service.storage import arrays, queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# Only a single GET contains these, so only a GET can report that they are well again. Names as the vendor spells them.
DETAIL_FIELDS = frozenset(field.json_name for field in FIELDS if field.group == DETAIL)
_DETAIL = f"CAST('{{{','.join(sorted(DETAIL_FIELDS))}}}' AS text[])"


class SetAsideRecord(NamedTuple):
    """A record, or fields of one, that could not be used.

    Attributes:
        model_id: the model; None where its id is unreadable.
        fields: names as the vendor spells them, in order, never values; empty where the whole record is unreadable.
        reason: a fixed sentence, without values.
        pull_id: the pull that found it; None for a GET or an event.
    """

    model_id: str | None
    fields: tuple[str, ...]
    reason: str
    pull_id: int | None = None


_NOTED = {"model_id": "text", "fields": "json", "reason": "text", "pull_id": "bigint"}
_NOTE = f"""
    INSERT INTO headshotpro.set_aside AS old (found_at, pull_id, last_pull_id, model_id, fields, reason)
    SELECT now(), pull_id, pull_id, model_id, ARRAY(SELECT json_array_elements_text(fields)), reason
    FROM {arrays.table(_NOTED)} ORDER BY place
    ON CONFLICT (coalesce(model_id, ''), fields, reason) WHERE resolved_at IS NULL
    DO UPDATE SET last_pull_id = excluded.last_pull_id
    WHERE coalesce(old.last_pull_id, 0) < excluded.last_pull_id
"""  # noqa: S608 - names of our own columns


def note(connection: Connection, found: Sequence[SetAsideRecord]) -> None:
    """Write down what could not be used; what is open already stays one row.

    Call it after the locks of the models are taken: all writers take their locks in that order.
    """
    unique = {(one.model_id or "", one.fields, one.reason): one for one in found}
    if unique:
        rows = [one._asdict() for _, one in sorted(unique.items())]
        queries.run(connection, _NOTE, **arrays.columns(_NOTED, rows))


# A row that was found after the pull began may be younger than the page that showed the model.
_RESOLVE = f"""
    UPDATE headshotpro.set_aside AS s SET resolved_at = now()
    FROM headshotpro.pulls AS p
    WHERE p.id = :pull_id AND s.resolved_at IS NULL
        AND s.found_at < p.started_at AND coalesce(s.last_pull_id, 0) < p.id
        AND CASE
            WHEN s.model_id IS NULL THEN true
            WHEN EXISTS (
                SELECT FROM headshotpro.models AS m WHERE m.id = s.model_id AND m.status IS DISTINCT FROM 'deleted'
            ) THEN (cardinality(s.fields) = 0 OR NOT s.fields <@ {_DETAIL}) AND EXISTS (
                SELECT FROM headshotpro.model_clocks AS c
                WHERE c.model_id = s.model_id AND c.profile_at >= :began_at
            )
            ELSE true
        END
"""  # noqa: S608 - constants


def resolve(connection: Connection, pull_id: int, began_at: datetime) -> None:
    """A full pull is complete: resolve what it read well, and what is about models that do not exist any more.

    In the transaction that ends the pull; `began_at` is the upstream time of its first page.
    """
    queries.run(connection, _RESOLVE, pull_id=pull_id, began_at=began_at)


_RESOLVE_DETAIL = f"""
    UPDATE headshotpro.set_aside SET resolved_at = now()
    WHERE resolved_at IS NULL AND coalesce(model_id, '') = :model_id AND cardinality(fields) > 0 AND fields <@ {_DETAIL}
        AND fields <> CAST(:fields AS text[])
"""  # noqa: S608 - constants


def resolve_detail(connection: Connection, model_id: str, unusable: Sequence[str]) -> None:
    """A GET read a model: resolve what is open about photo count and favourite, except the fields still unusable."""
    queries.run(connection, _RESOLVE_DETAIL, model_id=model_id, fields=list(unusable))


def resolve_one(connection: Connection, row_id: int) -> bool:
    """A person resolved a row; False where it is not open."""
    statement = "UPDATE headshotpro.set_aside SET resolved_at = now() WHERE id = :id AND resolved_at IS NULL"
    return queries.run(connection, statement, id=row_id) > 0


def list_rows(
    connection: Connection, *, is_open: bool | None, model_id: str | None, pull_id: int | None, before: int | None,
    limit: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Records and fields that could not be used, the newest first. `before`: those with smaller ids."""
    wanted = {"is_open": is_open, "model_id": model_id, "pull_id": pull_id}
    return queries.newest(connection, "set_aside", limit, before, _CONDITIONS, **wanted)


_CONDITIONS = {
    "is_open": "(resolved_at IS NULL) = :is_open",
    "pull_id": "(pull_id = :pull_id OR last_pull_id = :pull_id)",
}
