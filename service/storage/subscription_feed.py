"""Reads and writes of the process that sends to subscriptions: leases, changes with their rows, progress.

A lease is a row's `holder` until `leased_until`. Every write of progress names the holder and the version that it was
read with, so a process that lost its lease, or that has not seen a replay yet, writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from service.storage import arrays, queries, subscriptions
from service.storage.tables import models
from service.storage.tables.subscriptions import subscription_deliveries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

_COLUMNS = [column.name for column in models.columns]


@dataclass(frozen=True, slots=True)
class Progress:
    """The work of one subscription since its last progress was written.

    Attributes:
        cursor: the lowest change that is not acknowledged, or that was not read yet.
        delivered: how many changes were acknowledged since.
        acknowledged: those of them that may have a row in `subscription_deliveries`.
        waiting: rows of `subscription_deliveries` to write.
        failure: `failed_status` and `failed_reason` of the last failure since; None where there was none.
        state: `failing`, `active` or `disabled` where it changed; None where it did not.
        release: another process may take it over at once.
        recent: its newest requests; see the column `recent_requests`.
    """

    subscription_id: int
    version: int
    cursor: int
    read_to: int
    delivered: int = 0
    acknowledged: Sequence[int] = ()
    waiting: Sequence[Mapping[str, Any]] = ()
    failure: tuple[int | None, str] | None = None
    state: str | None = None
    reason: str | None = None
    release: bool = False
    recent: Sequence[Mapping[str, Any]] = ()


def lease(connection: Connection, holder: str, seconds: float) -> list[dict[str, Any]]:
    """Renew a process's leases and take those that are free: the rows of all subscriptions that it may send to.

    The leases hold for `seconds`; the rows are locked in the order of their ids.
    """
    return queries.rows(connection, _LEASE, holder=holder, seconds=seconds)


# A process whose lease another one had meanwhile must see that on its return: what it knows is out of date.
_LEASE = """
    UPDATE headshotpro.subscriptions SET holder = :holder, leased_until = now() + make_interval(secs => :seconds),
        version = version + CAST(holder IS DISTINCT FROM :holder AS integer)
    WHERE id = ANY(ARRAY(
        SELECT id FROM headshotpro.subscriptions
        WHERE state IN ('active', 'failing') AND (holder IS NULL OR holder = :holder OR leased_until <= now())
        ORDER BY id FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, name, url, statuses, teams, with_personal_data, batch, state, read_to, replays, version,
        recent_requests, secret, CASE WHEN previous_secret_until > now() THEN previous_secret END AS previous_secret
"""


def read_after(connection: Connection, after: int, limit: int) -> list[dict[str, Any]]:
    """The next changes of the feed, each with `row`: its model as the change left it."""
    return _with_rows(connection, _AFTER, {"after": after, "limit": limit})


def read(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Changes with their rows, in the order of their ids; one that is not kept any more is left out."""
    return _with_rows(connection, _GIVEN, {"ids": list(ids)})


def _with_rows(connection: Connection, statement: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    changes = []
    for change in queries.rows(connection, statement, **values):
        row = {name: change.pop(f"row_{name}") for name in _COLUMNS}
        # As in `model_as_of`: these two belong to the change that wrote the row.
        row |= {"observed_at": change["observed_at"], "updated_at": change["recorded_at"]}
        changes.append({**change, "row": row})
    return changes


# Of each column that changed since, the first later change still holds the value as this change left it. The columns
# come with their types, so that a value looks the same whether it is from the row or from the history.
_CHANGES = f"""
    SELECT c.id, c.model_id, c.from_status, c.to_status, c.changed, c.source, c.observed_at, c.recorded_at,
        {", ".join(f'past."{name}" AS row_{name}' for name in _COLUMNS)}
    FROM (
        SELECT * FROM headshotpro.model_changes WHERE {{wanted}}
    ) AS c
    JOIN headshotpro.models AS m ON m.id = c.model_id
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(key, old), '{{{{}}}}') AS columns FROM (
            SELECT DISTINCT ON (key) key, value -> 0 AS old
            FROM headshotpro.model_changes AS later, jsonb_each(later.changed)
            WHERE later.model_id = c.model_id AND later.id > c.id ORDER BY key, later.id
        ) AS first_later
    ) AS undone
    CROSS JOIN LATERAL jsonb_populate_record(m, undone.columns) AS past
    ORDER BY c.id
"""  # noqa: S608 - names of our own columns
_AFTER = _CHANGES.format(wanted="id > :after ORDER BY id LIMIT :limit")
_GIVEN = _CHANGES.format(wanted="id = ANY(CAST(:ids AS bigint[]))")


def waiting(connection: Connection, subscription_id: int) -> list[dict[str, Any]]:
    """The changes that a subscription had not acknowledged when its progress was last written, in feed order.

    Changes that retention removed while it was disabled are left out, and forgotten.
    """
    queries.run(connection, _FORGET_PURGED, id=subscription_id)
    return queries.rows(connection, subscriptions.WAITING, id=subscription_id)


_FORGET_PURGED = """
    DELETE FROM headshotpro.subscription_deliveries AS d
    WHERE subscription_id = :id AND NOT EXISTS (SELECT FROM headshotpro.model_changes AS c WHERE c.id = d.change_id)
"""


def write_progress(connection: Connection, holder: str, all_progress: Sequence[Progress]) -> set[int]:
    """Write the progress of some subscriptions.

    Returns:
        The subscriptions for which it was written; for the others the lease is lost or a person has changed them.
    """
    written: set[int] = set()
    # In the order of ids, as every transaction that locks several of them.
    for progress in sorted(all_progress, key=lambda one: one.subscription_id):
        if not queries.run(
            connection,
            _WRITE,
            holder=holder,
            id=progress.subscription_id,
            version=progress.version,
            cursor=progress.cursor,
            read_to=progress.read_to,
            delivered=progress.delivered,
            failed=progress.failure is not None,
            failed_status=progress.failure[0] if progress.failure else None,
            failed_reason=progress.failure[1] if progress.failure else None,
            state=progress.state,
            reason=progress.reason,
            release=progress.release,
            recent=msgspec.json.encode(progress.recent).decode(),
        ):
            continue
        written.add(progress.subscription_id)
        if progress.acknowledged:
            changes = list(progress.acknowledged)
            queries.run(connection, _ACKNOWLEDGE, id=progress.subscription_id, changes=changes)
        if progress.waiting:
            rows = arrays.columns(_TYPES, progress.waiting)
            queries.run(connection, _WAIT, id=progress.subscription_id, **rows)
    return written


# A state that a person set meanwhile stays: only these two are the sender's to change.
_WRITE = """
    UPDATE headshotpro.subscriptions SET
        cursor = :cursor,
        read_to = :read_to,
        delivered = delivered + :delivered,
        delivered_at = CASE WHEN :delivered > 0 THEN now() ELSE delivered_at END,
        failed_at = CASE WHEN :failed THEN now() ELSE failed_at END,
        failed_status = CASE WHEN :failed THEN CAST(:failed_status AS smallint) ELSE failed_status END,
        failed_reason = CASE WHEN :failed THEN CAST(:failed_reason AS text) ELSE failed_reason END,
        recent_requests = CAST(:recent AS jsonb),
        reason = CASE
            WHEN CAST(:state AS text) IS NOT NULL AND state IN ('active', 'failing') THEN CAST(:reason AS text)
            ELSE reason END,
        state = CASE WHEN state IN ('active', 'failing') THEN coalesce(CAST(:state AS text), state) ELSE state END,
        holder = CASE WHEN :release THEN NULL ELSE holder END,
        leased_until = CASE WHEN :release THEN NULL ELSE leased_until END
    WHERE id = :id AND holder = :holder AND version = :version
"""
_ACKNOWLEDGE = """
    DELETE FROM headshotpro.subscription_deliveries
    WHERE subscription_id = :id AND change_id = ANY(CAST(:changes AS bigint[]))
"""
_TYPES = arrays.column_types(subscription_deliveries, subscription_deliveries.columns.keys()[1:])
_WAIT = f"""
    INSERT INTO headshotpro.subscription_deliveries (subscription_id, {", ".join(_TYPES)})
    SELECT :id, {", ".join(_TYPES)} FROM {arrays.table(_TYPES)}
    ON CONFLICT (subscription_id, change_id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _TYPES if name not in ("change_id", "model_id"))}
"""  # noqa: S608 - names of our own columns
