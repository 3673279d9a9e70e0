"""Pages of a pull, merged by sets: most models of a page are either new or as they were.

These statements do to a model what `service.mirror.apply` would do; everything else on a page goes through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from service.model_fields import Source, columns_of
from service.storage import json_rows
from service.storage.tables import models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

# The columns of a model that a list page contains.
PAGE_COLUMNS = columns_of(Source.LIST)

_NAMES = ", ".join(PAGE_COLUMNS)
_NEW_MODEL_TYPES = {
    **json_rows.column_types(models, ("id", *PAGE_COLUMNS)),
    "at": "timestamptz",
    "until": "timestamptz",
    "digest": "bigint",
}


def add(connection: Connection, new_models: Sequence[Mapping[str, Any]], now: datetime) -> set[str]:
    """Insert models that were never seen before, with their clocks; another process may have inserted some already.

    Missing clocks are inserted before the first lock is taken, and in id order, as `models.lock_clocks` does it.

    Args:
        connection: a transaction that holds no clock yet.
        new_models: each with `id`, and where the page alone holds all that is known of it, the fields of
            `PAGE_COLUMNS`, the times `at` and `until` of the response, and the page's `digest`.
        now: our time of the write.

    Returns:
        The ids of the models that were inserted.
    """
    return set(connection.execute(_ADD, {"rows": json_rows.encode_rows(new_models), "now": now}).scalars())


_ADD = text(
    f"""
    WITH new_model AS MATERIALIZED (
        SELECT * FROM {json_rows.table(_NEW_MODEL_TYPES)}
    ), clock AS (
        INSERT INTO headshotpro.model_clocks (model_id, core_at, profile_at, observed_until, shown_at, shown_digest)
        SELECT id, at, at, until, at, digest FROM new_model ORDER BY id
        ON CONFLICT DO NOTHING
        RETURNING model_id
    )
    INSERT INTO headshotpro.models (id, {_NAMES}, observed_at, updated_at)
    SELECT id, {_NAMES}, at, :now FROM new_model JOIN clock ON model_id = id WHERE at IS NOT NULL ORDER BY id
    RETURNING id
    """  # noqa: S608 - names of our own columns
)


# Models of some pages: `page` is the number of its page from 0, `gone` is whether it showed the model as deleted.
_SHOWN = """
    ROWS FROM (
        json_array_elements_text(CAST(:ids AS json)), json_array_elements_text(CAST(:digests AS json)),
        json_array_elements_text(CAST(:gone AS json)), json_array_elements_text(CAST(:pages AS json))
    ) AS shown (id, digest, gone, page)
"""
_AT, _UNTIL = (f"(CAST(:{name} AS timestamptz[]))[CAST(shown.page AS int) + 1]" for name in ("ats", "untils"))
_NO_EXCEPTIONS = f"(c.exceptions IS NULL OR NOT c.exceptions ?| CAST('{{{','.join(PAGE_COLUMNS)}}}' AS text[]))"


class ShownModels(NamedTuple):
    """The models on pages, each once, with a digest of its record, whether it is deleted, and its page.

    Attributes:
        ats: of each page, the upstream time from which it holds.
        untils: of each page, the upstream time until which it may have been read, where that is later.
    """

    ids: Sequence[str]
    digests: Sequence[int]
    gone: Sequence[bool]
    pages: Sequence[int]
    ats: Sequence[datetime]
    untils: Sequence[datetime | None]

    @property
    def values(self) -> dict[str, Any]:
        """As parameters."""
        arrays = {name: json_rows.encode_rows(getattr(self, name)) for name in ("ids", "digests", "gone", "pages")}
        return {**arrays, "ats": self.ats, "untils": self.untils}


class KnownModels(NamedTuple):
    """The known state of models that pages show.

    Attributes:
        missing: those of which nothing is known, not even a clock; where there are any, no other was checked.
        new: how many of the others no API response had shown since the pull began.
        unconfirmed: those of the others of which a page may show something new.
    """

    missing: set[str]
    new: int
    unconfirmed: set[str]


def confirm(connection: Connection, shown: ShownModels, ids: Sequence[str], began_at: datetime) -> KnownModels:
    """Move the clocks of the models whose newest known state is that of an earlier page, and which a page shows again.

    Left alone are models that another source has changed since, with fields that are known as of times of their own, or
    about whose life and death there is anything to decide. All clocks stay locked until the transaction ends; they are
    locked in id order.

    While one is missing, none is locked: a transaction that held locks already while it inserts could meet another one
    that does the same. `add` comes before the next try then.

    Args:
        connection: a transaction that holds no clock but those it has added.
        shown: the models on pages.
        ids: of all models to be locked, those of `shown` and maybe others.
        began_at: upstream time of the pull's first page.
    """
    values = {**shown.values, "all_ids": json_rows.encode_rows(ids), "began_at": began_at}
    missing, new, unconfirmed = connection.execute(_CONFIRM, values).one()
    return KnownModels(set(missing), new, set(unconfirmed))


_ALL_IDS = json_rows.IDS_ARRAY.replace(":ids", ":all_ids")
_CONFIRM = text(
    f"""
    WITH missing AS MATERIALIZED (
        SELECT json_array_elements_text(CAST(:all_ids AS json)) AS model_id
        EXCEPT ALL SELECT model_id FROM headshotpro.model_clocks WHERE model_id = ANY({_ALL_IDS})
    ), locked AS MATERIALIZED (
        SELECT model_id, profile_at FROM headshotpro.model_clocks
        WHERE model_id = ANY({_ALL_IDS}) AND NOT EXISTS (SELECT FROM missing)
        ORDER BY model_id FOR UPDATE
    ), confirmed AS (
        UPDATE headshotpro.model_clocks AS c
        SET core_at = greatest(c.core_at, {_AT}), profile_at = greatest(c.profile_at, {_AT}),
            shown_at = greatest(c.shown_at, {_AT}), observed_until = greatest(c.observed_until, {_UNTIL}),
            deletion_evidence_at = CASE WHEN CAST(shown.gone AS boolean)
                THEN greatest(c.deletion_evidence_at, {_AT}) ELSE c.deletion_evidence_at END
        FROM locked JOIN {_SHOWN} ON locked.model_id = shown.id
        WHERE c.model_id = locked.model_id AND c.shown_digest = CAST(shown.digest AS bigint)
            AND c.core_at = c.shown_at AND c.profile_at = c.shown_at AND {_NO_EXCEPTIONS}
            AND CASE WHEN CAST(shown.gone AS boolean) THEN c.deletion_evidence_from <= {_AT} AND c.core_status IS NULL
                ELSE c.deletion_evidence_at IS NULL OR c.deletion_evidence_at < c.alive_at END
        RETURNING c.model_id
    )
    SELECT ARRAY(SELECT model_id FROM missing),
        (SELECT count(*) FROM locked WHERE profile_at IS NULL OR profile_at < :began_at),
        ARRAY(SELECT json_array_elements_text(CAST(:ids AS json)) EXCEPT SELECT model_id FROM confirmed)
    """  # noqa: S608 - names of our own columns
)


def surely_newest(connection: Connection, shown: ShownModels) -> set[str]:
    """The models whose known state is older than the pages in every field: the pages win, without a tie."""
    return set(connection.execute(_SURELY_NEWEST, shown.values).scalars())


_SURELY_NEWEST = text(
    f"""
    SELECT c.model_id FROM headshotpro.model_clocks AS c JOIN {_SHOWN} ON c.model_id = shown.id
    WHERE coalesce(c.core_at < {_AT}, true) AND coalesce(c.profile_at < {_AT}, true)
    """  # noqa: S608 - names of our own columns
)


def save_digests(connection: Connection, shown: ShownModels) -> None:
    """Save the digests of models that were applied, where the page won every field."""
    connection.execute(_SAVE_DIGESTS, shown.values)


_SAVE_DIGESTS = text(
    f"""
    UPDATE headshotpro.model_clocks AS c SET shown_at = {_AT}, shown_digest = CAST(shown.digest AS bigint)
    FROM {_SHOWN}
    WHERE c.model_id = shown.id AND c.core_at = {_AT} AND c.profile_at = {_AT} AND {_NO_EXCEPTIONS}
    """  # noqa: S608 - names of our own columns
)


def newest_shown_at(connection: Connection) -> datetime | None:
    """The newest upstream time as of which an API response showed any model; read before the next request is sent."""
    found: datetime | None = connection.execute(text("SELECT max(profile_at) FROM headshotpro.model_clocks")).scalar()
    return found


def shown_since(connection: Connection, began_at: datetime) -> int:
    """How many models an API response showed since an upstream time."""
    statement = text("SELECT count(*) FROM headshotpro.model_clocks WHERE profile_at >= :began_at")
    return int(connection.execute(statement, {"began_at": began_at}).scalar_one())
