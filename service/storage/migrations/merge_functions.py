"""The functions that lock, read and write what a merge does, for a set of columns: `alembic/versions` calls it.

A revision that adds a column makes them anew under the next number, `service.storage.merged` then calls those, and code
of the release before goes on with the ones before. So the text of released ones does not change: a test holds it.

Why: `docs/decisions/0044-functions-for-merges.md`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROW_TIMES = {"updated_at": "timestamptz", "erased_at": "timestamptz"}

# One plan for any number of rows, which finds them by their keys, also where nothing has been analyzed yet.
_PLANNED_ONCE = """
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
"""


class Columns(NamedTuple):
    """The columns that a merge fills, each with its type.

    Attributes:
        clocks: of `model_clocks`, its key first.
        events: of `webhook_events`.
        requests: of `refetch_requests`.
        models: of `models`: `id` first, then those that observations fill, `observed_at` last.
        changes: of `model_changes`.
    """

    clocks: Mapping[str, str]
    events: Mapping[str, str]
    requests: Mapping[str, str]
    models: Mapping[str, str]
    changes: Mapping[str, str]


def statements(number: int, columns: Columns) -> list[str]:
    """The functions, their names ended by a number."""
    return [_lock(number, columns), _write(number, columns)]


def _lock(number: int, columns: Columns) -> str:
    """Lock and read.

    The missing clocks are inserted, in id order, before the first lock is taken: a transaction that held locks already
    while it inserts could meet another one that does the same. Each statement sees what was committed while the one
    before waited for a lock.
    """
    clocks, row = columns.clocks, {**columns.models, **_ROW_TIMES}
    return f"""
CREATE FUNCTION headshotpro.lock_models_{number}(ids text[], event_ids text[]) RETURNS TABLE (
    {", ".join(f"{name} {kind}" for name, kind in {**clocks, **row, "processed": "text"}.items())}
) {_PLANNED_ONCE} ROWS 10 AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO headshotpro.model_clocks (model_id)
    SELECT given.id FROM unnest(ids) AS given (id)
    WHERE NOT EXISTS (SELECT FROM headshotpro.model_clocks AS c WHERE c.model_id = given.id)
    ORDER BY given.id ON CONFLICT DO NOTHING;
    PERFORM FROM headshotpro.model_clocks AS c WHERE c.model_id = ANY(ids) ORDER BY c.model_id FOR UPDATE;
    RETURN QUERY
        SELECT {", ".join(f"c.{name}" for name in clocks)},
            {", ".join(f"m.{name}" for name in row)}, NULL::text
        FROM headshotpro.model_clocks AS c LEFT JOIN headshotpro.models AS m ON m.id = c.model_id
        WHERE c.model_id = ANY(ids)
        UNION ALL
        SELECT {"NULL, " * (len(clocks) + len(row))} e.id
        FROM headshotpro.webhook_events AS e WHERE e.id = ANY(event_ids);
END
$$
"""  # noqa: S608 - our own words


def _write(number: int, columns: Columns) -> str:
    clocks, _, requests, models, changes = columns
    given = {f"{kind}_{of}": of for kind, types in columns._asdict().items() for of in map(_sent_type, types.values())}
    return f"""
CREATE FUNCTION headshotpro.write_merged_{number}(
    {", ".join(f"{name} {_parameter(of)}" for name, of in given.items())},
    maybe_erased text[], written_at timestamptz
) RETURNS bigint {_PLANNED_ONCE} AS $$
#variable_conflict use_column
DECLARE
    last_id bigint;
BEGIN
    {_recording(columns.events)}
    IF cardinality(clocks_text) > 0 THEN
        UPDATE headshotpro.model_clocks AS old SET {", ".join(f"{name} = new.{name}" for name in [*clocks][1:])}
        FROM {_table("clocks", clocks)} WHERE old.model_id = new.model_id;
    END IF;
    IF cardinality(requests_text) > 0 THEN
        INSERT INTO headshotpro.refetch_requests AS old ({", ".join(requests)})
        SELECT {", ".join(requests)} FROM {_table("requests", requests)} ORDER BY model_id
        ON CONFLICT (model_id) DO UPDATE SET
            after = greatest(old.after, excluded.after),
            pull_id = coalesce(excluded.pull_id, old.pull_id),
            reason = CASE WHEN old.after IS NULL THEN excluded.reason ELSE old.reason END,
            due_at = CASE WHEN excluded.after > old.after OR old.after IS NULL THEN excluded.due_at ELSE old.due_at END
        WHERE excluded.after > old.after OR (old.after IS NULL AND excluded.after IS NOT NULL);
    END IF;
    IF cardinality(models_text) > 0 THEN
        INSERT INTO headshotpro.models ({", ".join(models)}, updated_at)
        SELECT {", ".join(models)}, written_at FROM {_table("models", models)}
        ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in [*models, "updated_at"][1:])};
    END IF;
    IF cardinality(changes_text) > 0 THEN
        -- The lock on the order of commits: `history.COMMIT_ORDER_LOCK`.
        PERFORM pg_advisory_xact_lock(x'48534343'::bigint);
        WITH added AS (
            INSERT INTO headshotpro.model_changes ({", ".join(changes)}, recorded_at)
            SELECT {", ".join(changes)}, written_at FROM {_table("changes", changes)} ORDER BY place RETURNING id
        ) SELECT max(id) INTO last_id FROM added;
        PERFORM pg_notify('headshotpro_changes', last_id::text);
    END IF;
    RETURN last_id;
END
$$
"""  # noqa: S608 - our own words


def _recording(events: Mapping[str, str]) -> str:
    """Write the events before all else, by their ids: another drain that has one of them waits here."""
    return f"""IF cardinality(events_text) > 0 THEN
        -- One that is there already counts the deliveries that are new: 50 are known by their ids, so one that is read
        -- again after more of them counts twice. `processed_at` leaves out what follows until others can read the row.
        INSERT INTO headshotpro.webhook_events ({", ".join(events)}, deliveries, processed_at)
        SELECT id, event, model_id, status, error,
            CASE WHEN model_id = ANY(ARRAY(
                SELECT m.id FROM headshotpro.models AS m WHERE m.id = ANY(maybe_erased) AND m.erased_at IS NOT NULL
            )) THEN NULL ELSE payload END,
            created_at, received_at, signed_at, delivery_ids::text[], cardinality(delivery_ids::text[]),
            clock_timestamp()
        FROM {_table("events", events)} ORDER BY id
        ON CONFLICT (id) DO UPDATE SET (deliveries, delivery_ids) = (
            SELECT webhook_events.deliveries + count(*),
                (coalesce(webhook_events.delivery_ids, '{{}}') || coalesce(array_agg(new_id), '{{}}'))[1:50]
            FROM unnest(excluded.delivery_ids) AS new_id
            WHERE NOT new_id = ANY(coalesce(webhook_events.delivery_ids, '{{}}'))
        );
    END IF;"""  # noqa: S608 - our own words


def _sent_type(of: str) -> str:
    """The type by which a column is sent: arrays in an array would all need one length, so they come as their texts."""
    return of.removesuffix("[]")


def _parameter(of: str) -> str:
    """The type of the parameter that holds the columns of a type; of documents there is one column."""
    return "text" if of == "jsonb" else f"{of}[]"


def _table(kind: str, columns: Mapping[str, str]) -> str:
    """The rows of a kind as a table `new`, with `place` as the number of each: see `arrays.columns_by_type`."""
    numbers: Counter[str] = Counter()
    arrays = []
    for of in map(_sent_type, columns.values()):
        numbers[of] += 1
        one_of_many = f"{kind}_{of}[{numbers[of]}:{numbers[of]}]"
        arrays.append(f"string_to_array({kind}_{of}, chr(10), '')::jsonb[]" if of == "jsonb" else one_of_many)
    return f"unnest({', '.join(arrays)}) WITH ORDINALITY AS new ({', '.join(columns)}, place)"
