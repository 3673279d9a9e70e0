"""Personal data of tombstones: which are due, and every place where they are taken out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from service.model_fields import DELETED, FIELDS, Kind, Personal, Source, fields_of, personal_columns
from service.storage import queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

PERSONAL_COLUMNS = personal_columns()
# Erasure removes every personal column. Ids, times and statuses stay: dashboards count them.
_NAME_COLUMNS = tuple(field.column for field in FIELDS if field.personal is Personal.NAME)
# Fields of a webhook's object whose texts are the vendor's.
_VENDOR_WORDS = tuple(
    field.name_in(Source.WEBHOOK)
    for field in fields_of(Source.WEBHOOK)
    if field.kind in {Kind.ID, Kind.WORD} and field.personal is not Personal.NAME
)
# A value of at least this many characters is also searched for inside other texts.
MIN_SUBSTRING_LENGTH = 8


def due(connection: Connection, deleted_before: datetime, limit: int) -> list[str]:
    """Tombstones that were deleted before a time and still have their personal data, the oldest first."""
    statement = (
        "SELECT id FROM headshotpro.models WHERE status = 'deleted' AND erased_at IS NULL "
        "AND deleted_at < :deleted_before ORDER BY deleted_at LIMIT :limit"
    )
    return queries.column(connection, statement, deleted_before=deleted_before, limit=limit)


class PersonalValue(NamedTuple):
    """A value by which the person of a tombstone can be recognized.

    Attributes:
        kind: its column, or `id` for the model itself.
    """

    kind: str
    value: str

    @property
    def search_texts(self) -> list[str]:
        """The texts by which it is found in a longer one, and in a payload as Postgres writes it.

        A short value could be a part of any other word, so it has to be in quotes. A payload that is no JSON is kept
        as one text, in which quotes and escapes are escaped once more.
        """
        texts = {json.dumps(self.value, ensure_ascii=False), json.dumps(self.value)}
        if len(self.value) >= MIN_SUBSTRING_LENGTH or self.kind == "email":
            texts = {self.value, *(text[1:-1] for text in texts)}
        return sorted(texts | {json.dumps(text, ensure_ascii=False)[1:-1] for text in texts})


def personal_values(connection: Connection, ids: Sequence[str]) -> list[PersonalValue]:
    """The present and earlier names of the persons of tombstones that are not erased yet."""
    return [PersonalValue(*row) for row in queries.execute(connection, _NAMES, ids=list(ids))]


_NAMES = f"""
    WITH due AS (
        SELECT * FROM headshotpro.models
        WHERE id = ANY(CAST(:ids AS text[])) AND status = 'deleted' AND erased_at IS NULL
    )
    SELECT column_values.kind, column_values.value FROM due
    CROSS JOIN LATERAL (
        VALUES {", ".join(f"('{name}', {name})" for name in ("id", *_NAME_COLUMNS))}
    ) AS column_values (kind, value)
    WHERE value <> ''
    UNION
    SELECT change.kind, change.pair ->> place
    FROM due
    JOIN headshotpro.model_changes AS past ON past.model_id = due.id
    CROSS JOIN LATERAL jsonb_each(past.changed) AS change (kind, pair)
    CROSS JOIN generate_series(0, 1) AS place
    WHERE change.kind IN ({", ".join(f"'{name}'" for name in _NAME_COLUMNS)}) AND change.pair ->> place <> ''
"""  # noqa: S608 - names of our own columns


def erase_payloads(
    connection: Connection, personal_values: Sequence[PersonalValue], above: str, count: int
) -> str | None:
    """Remove the bodies of events that name one of the persons, among the next events in the order of their receipt.

    So a search that takes minutes comes to those that arrive meanwhile.

    Two people may have one title: an event about another model that has it, too, names the other one. A model's id
    names no person, so it counts only in an event that is about no model. In a transaction of its own. Searches
    `count` events after `above`, the last event of the slice before as this function returned it; empty at first.

    Returns:
        The last event of this slice; None where none is left.
    """
    at, _, event_id = above.partition(" ")
    place = {"at": at or "-infinity", "id": event_id}
    events = queries.rows(connection, _SLICE, **place, count=count)
    if not events:
        return None
    last = events[-1]
    searched = [(*value, part) for value in personal_values for part in value.search_texts]
    kinds, values, parts = (list(column) for column in zip(*searched, strict=True))
    until = {"until": last["received_at"], "until_id": last["id"]}
    queries.run(connection, _ERASE_PAYLOADS, **place, **until, kinds=kinds, values=values, parts=parts)
    return f"{last['received_at'].isoformat()} {last['id']}" if len(events) == count else None


_SLICE = """
    SELECT received_at, id FROM headshotpro.webhook_events
    WHERE (received_at, id) > (CAST(:at AS timestamptz), :id) ORDER BY received_at, id LIMIT :count
"""
# A title may be any word, such as `active` or the name of an event, so it is looked for in the texts that people write
# alone: not in names of fields, nor in those fields whose texts are the vendor's. Locked in the order of ids, as the
# drain does it.
_ERASE_PAYLOADS = f"""
    WITH named AS MATERIALIZED (
        SELECT kind, value, lower(value) AS whole, lower(part) AS part
        FROM unnest(CAST(:kinds AS text[]), CAST(:values AS text[]), CAST(:parts AS text[]))
            AS given (kind, value, part)
    ), found AS (
        SELECT event.id FROM headshotpro.webhook_events AS event
        CROSS JOIN LATERAL (
            SELECT lower(event.payload::text) AS whole, array_agg(lower(said #>> '{{}}')) AS texts,
                string_agg(lower(said #>> '{{}}'), chr(10)) AS all_texts
            FROM jsonb_path_query(
                CASE WHEN jsonb_typeof(event.payload) <> 'object' THEN event.payload
                ELSE (event.payload - CAST(ARRAY['id', 'event', 'createdAt', 'objectType'] AS text[]))
                    {" ".join(f"#- '{{object,{name}}}'" for name in ("_id", *_VENDOR_WORDS))} END,
                '$.**'
            ) AS said
            WHERE jsonb_typeof(said) = 'string'
        ) AS event_text
        WHERE (event.received_at, event.id) > (CAST(:at AS timestamptz), :id)
            AND (event.received_at, event.id) <= (CAST(:until AS timestamptz), :until_id)
            AND event.payload IS NOT NULL AND EXISTS (
            SELECT FROM named
            WHERE CASE named.kind
                WHEN 'title' THEN (strpos(event_text.all_texts, named.part) > 0 OR named.whole = ANY(event_text.texts))
                    AND NOT EXISTS (
                        SELECT FROM headshotpro.models AS other
                        WHERE other.id = event.model_id AND other.title = named.value AND other.status <> 'deleted'
                    )
                WHEN 'id' THEN event.model_id IS NULL AND strpos(event_text.whole, named.part) > 0
                ELSE strpos(event_text.whole, named.part) > 0 END
        )
        ORDER BY event.id FOR UPDATE OF event
    )
    UPDATE headshotpro.webhook_events AS event SET payload = NULL FROM found WHERE event.id = found.id
"""  # noqa: S608 - names of the vendor's fields


def erase_idempotency_keys(connection: Connection, personal_values: Sequence[PersonalValue]) -> None:
    """Remove the keys by which these models were created, and those that hold an address; one in use is left alone."""
    addresses = [one.value for one in personal_values if one.kind == "email"]
    forms = {form for value in addresses for form in (value, quote(value), quote(value, safe=""))}
    ids = [one.value for one in personal_values if one.kind == "id"]
    queries.run(connection, _ERASE_KEYS, ids=ids, addresses=sorted(forms))


_ERASE_KEYS = """
    DELETE FROM headshotpro.idempotency_keys AS created
    WHERE model_id = ANY(CAST(:ids AS text[])) OR (leased_until <= now() AND EXISTS (
        SELECT FROM unnest(CAST(:addresses AS text[])) AS address WHERE strpos(lower(created.key), lower(address)) > 0
    ))
"""


def erase(connection: Connection, ids: Sequence[str], now: datetime) -> list[dict[str, Any]]:
    """Take the personal data of tombstones out of every table.

    The transaction holds the locks of their clocks; one that is alive or was erased before is left alone.

    Returns:
        The rows as they were.
    """
    statement = "SELECT * FROM headshotpro.models WHERE id = ANY(CAST(:ids AS text[]))"
    rows = queries.rows(connection, statement, ids=list(ids))
    erased = [row for row in rows if row["status"] == DELETED and row["erased_at"] is None]
    values = {
        "ids": [row["id"] for row in erased],
        "now": now,
        "personal": list(PERSONAL_COLUMNS),
        "nothing": json.dumps([None, None]),
    }
    for step in _STEPS if erased else ():
        queries.run(connection, step, **values)
    return erased


_STEPS = (
    # A digest of personal data can be held against a guess; and no page may confirm what was erased.
    "UPDATE headshotpro.model_clocks SET shown_digest = NULL WHERE model_id = ANY(CAST(:ids AS text[]))",
    f"""
    UPDATE headshotpro.models SET {", ".join(f"{name} = NULL" for name in PERSONAL_COLUMNS)}, erased_at = :now,
        updated_at = :now
    WHERE id = ANY(CAST(:ids AS text[]))
    """,  # noqa: S608 - names of our own columns
    # A column that changed is still seen to have changed, from nothing to nothing.
    """
    UPDATE headshotpro.model_changes SET changed = changed || (
        SELECT jsonb_object_agg(key, CAST(:nothing AS jsonb))
        FROM jsonb_object_keys(changed) AS key WHERE key = ANY(CAST(:personal AS text[]))
    )
    WHERE model_id = ANY(CAST(:ids AS text[])) AND jsonb_exists_any(changed, CAST(:personal AS text[]))
    """,
    (
        "UPDATE headshotpro.webhook_events SET payload = NULL "
        "WHERE model_id = ANY(CAST(:ids AS text[])) AND payload IS NOT NULL"
    ),
    "UPDATE headshotpro.alerts SET detail = '{}' WHERE model_id = ANY(CAST(:ids AS text[])) AND detail <> '{}'",
)
