"""Pages of a pull by sets: unknown models are inserted, and unchanged ones confirmed.

Nothing else of the merge is in SQL. `service.mirror.codec` decides which records these statements may take; all others
go through `service.mirror.apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.model_fields import Source, columns_of
from service.storage import arrays
from service.storage.tables import models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

_NAMES = ", ".join(columns_of(Source.LIST))
_NEW_MODEL_TYPES = {
    **arrays.column_types(models, ("id", *columns_of(Source.LIST), "observed_at")),
    "at": "timestamptz",
    "until": "timestamptz",
    "digest": "bigint",
}


def add(connection: Connection, new_models: Sequence[Mapping[str, Any]], now: datetime) -> set[str]:
    """Insert models that were never seen before, with their clocks; another process may have inserted some already.

    Missing clocks are inserted before the first lock is taken, and in id order, as `merged.lock` does it.

    Args:
        connection: a transaction that holds no clock yet.
        new_models: each with `id`. Only its clocks are made, empty, unless it has a `digest`: then it has also the
            fields of the list, `at` and `until`, between which they hold, and `observed_at`.
        now: our time of the write.

    Returns:
        The ids of the models that were inserted.
    """
    return set(connection.execute(_ADD, {**arrays.columns(_NEW_MODEL_TYPES, new_models), "now": now}).scalars())


_ADD = text(
    f"""
    WITH new_model AS MATERIALIZED (
        SELECT * FROM {arrays.table(_NEW_MODEL_TYPES)}
    ), clock AS (
        INSERT INTO headshotpro.model_clocks (model_id, core_at, profile_at, observed_until, shown_digest)
        SELECT id, at, at, until, digest FROM new_model ORDER BY id
        ON CONFLICT DO NOTHING
        RETURNING model_id
    )
    INSERT INTO headshotpro.models (id, {_NAMES}, observed_at, updated_at)
    SELECT id, {_NAMES}, observed_at, :now FROM new_model JOIN clock ON model_id = id
    WHERE digest IS NOT NULL ORDER BY id
    RETURNING id
    """  # noqa: S608 - names of our own columns
)


class ShownModels(NamedTuple):
    """The models on pages, each once, and the intervals of upstream time in which they were read.

    Attributes:
        digests: model id to the digest of its records; None: the model is locked and not confirmed.
        intervals: model id to the number of its interval, from 0; in the order of `digests`.
        times: of each interval, from when it holds, and until when it may have been read, where that is later.
    """

    digests: Mapping[str, int | None]
    intervals: Mapping[str, int]
    times: Sequence[tuple[datetime, datetime | None]]


class KnownModels(NamedTuple):
    """The known state of models that pages show.

    Attributes:
        missing: those of which nothing is known, not even a clock; where there are any, no other was checked.
        new: how many of the others no API response had shown since the pull began.
        unconfirmed: those of the others of which a page may show something new.
        profiles: whether the profile of any model, on a page or not, was requested.
    """

    missing: set[str]
    new: int
    unconfirmed: set[str]
    profiles: bool = False


def confirm(connection: Connection, shown: ShownModels, began_at: datetime) -> KnownModels:
    """Move the clocks of models of which pages show what is known. All clocks stay locked, in id order.

    A page of an earlier time that shows the same moves nothing, and needs no merge either: pages of one second overlap.

    While one is missing, none stays locked: a transaction that held locks already while it inserts could block another
    one that does the same. `add` comes before the next try then. The transaction holds no clock but those it has added;
    `began_at` is the upstream time of the pull's first page.
    """
    if not shown.digests:
        return KnownModels(set(), 0, set())
    ats, untils = zip(*shown.times, strict=True)
    columns: dict[str, Sequence[Any]] = {
        "ids": [*shown.digests],
        "digests": [*shown.digests.values()],
        "intervals": [*shown.intervals.values()],
        "ats": ats,
        "untils": untils,
    }
    values = {name: arrays.encode(column) for name, column in columns.items()}
    connection.exec_driver_sql("SAVEPOINT unlocked")
    found = connection.execute(_CONFIRM, {**values, "began_at": began_at}).one()
    if found.missing:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT unlocked")
        return KnownModels(set(found.missing), 0, set())
    return KnownModels(set(), found.new, set(found.unconfirmed), found.profiles)


# The digest says that all else is as it was. Workers of the version before, which run beside this one during an
# upgrade, leave it where they change a row: the two conditions after it find those. A row that another transaction
# changed while this one waited for its lock is compared again, as it is now.
_CONFIRM = text(
    """
    WITH shown AS MATERIALIZED (
        SELECT id, digest,
            (CAST(:ats AS timestamptz[]))[number + 1] AS at,
            (CAST(:untils AS timestamptz[]))[number + 1] AS until
        FROM ROWS FROM (
            unnest(CAST(:ids AS text[])), unnest(CAST(:digests AS bigint[])), unnest(CAST(:intervals AS int[]))
        ) AS page (id, digest, number)
    ), locked AS MATERIALIZED (
        SELECT model_id, profile_at FROM headshotpro.model_clocks
        WHERE model_id = ANY(ARRAY(SELECT id FROM shown))
        ORDER BY model_id FOR UPDATE
    ), confirmed AS (
        UPDATE headshotpro.model_clocks AS c
        SET core_at = greatest(core_at, at), profile_at = greatest(profile_at, at),
            observed_until = greatest(observed_until, until)
        FROM shown
        WHERE c.model_id = id AND c.model_id = ANY(ARRAY(SELECT model_id FROM locked))
            AND (SELECT count(*) FROM locked) = (SELECT count(*) FROM shown)
            AND shown_digest = digest AND core_at = profile_at AND deletion_evidence_at IS NULL
            AND (
                NOT EXISTS (SELECT FROM headshotpro.foreign_writes)
                OR NOT EXISTS (SELECT FROM headshotpro.foreign_writes AS f WHERE f.model_id = c.model_id)
            )
        RETURNING c.model_id
    )
    SELECT
        CASE WHEN (SELECT count(*) FROM locked) < (SELECT count(*) FROM shown)
            THEN ARRAY(SELECT id FROM shown EXCEPT SELECT model_id FROM locked) ELSE '{}' END AS missing,
        (SELECT count(*) FROM locked WHERE profile_at IS NULL OR profile_at < :began_at) AS new,
        CASE WHEN (SELECT count(*) FROM confirmed) < (SELECT count(*) FROM shown)
            THEN ARRAY(SELECT id FROM shown EXCEPT SELECT model_id FROM confirmed) ELSE '{}' END AS unconfirmed,
        EXISTS (SELECT FROM headshotpro.refetch_requests WHERE after IS NULL) AS profiles
    """
)
