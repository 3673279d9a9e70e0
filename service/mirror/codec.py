"""The known state as rows: the visible row of `models` and the narrow row of `model_clocks`, both ways.

A group is stored as one time; the profile's is that of the newest API response that showed the model at all.
The few fields that are not known as of their group's time, because a source left them out, are kept as exceptions; the
value of each is in the visible row. A digest is derived: it is there where a list page can confirm the whole row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.mirror.digest import LIST_COLUMNS, digest_of
from service.mirror.merge import CORE, GROUPS, NOTHING_KNOWN, PROFILE, RANKS, KnownState, Register
from service.model_fields import DELETED

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

PLAIN_CLOCKS = ("alive_at", "deletion_evidence_from", "deletion_evidence_at", "deleted_at_upstream", "observed_until")
# In the order of `KnownState`.
_BESIDE_FIELDS = (*PLAIN_CLOCKS, "profile_at")
_LISTED = frozenset(LIST_COLUMNS)
# Each group's column of `model_clocks`, and its fields.
_CLOCKED = tuple((f"{group}_at", names) for group, names in GROUPS.items())


def decode(row: Mapping[str, Any] | None, clocks: Mapping[str, Any]) -> KnownState:
    """The known state of a model from its two rows; `NOTHING_KNOWN` where it has no visible row yet."""
    if row is None:
        return NOTHING_KNOWN
    exceptions = clocks["exceptions"] or {}
    hidden = clocks["core_status"]
    # An empty text means a null status below a tombstone.
    status = row["status"] if hidden is None else hidden or None
    fields: dict[str, Register] = {}
    for clock, names in _CLOCKED:
        at = clocks[clock]
        if at is not None:
            rank = RANKS.get(status or "", 0) if names is CORE and "status" not in exceptions else 0
            for name in names:
                fields[name] = Register(at, rank, row[name])
    if hidden is not None and "status" in fields:
        fields["status"] = Register(fields["status"].at, fields["status"].rank, status)
    for name, exception in exceptions.items():
        if exception is None:
            del fields[name]
        else:
            microseconds, rank = exception
            fields[name] = Register(EPOCH + microseconds * MICROSECOND, rank, fields[name].value)
    return KnownState(fields, *[clocks[name] for name in _BESIDE_FIELDS])


def encode(known: KnownState) -> dict[str, Any]:
    """The columns of `model_clocks`; those of `models` are what is visible."""
    clocks: dict[str, Any] = {name: getattr(known, name) for name in PLAIN_CLOCKS}
    exceptions: dict[str, Any] = {}
    fields = known.fields
    for clock, names in _CLOCKED:
        clocks[clock] = at = known.shown_at if names is PROFILE else _newest(fields, names)
        if at is not None:
            rank = _rank(fields.get("status"), at) if names is CORE else 0
            for name in names:
                register = fields.get(name)
                if register is None:
                    exceptions[name] = None
                elif register.rank != rank or (register.at is not at and register.at != at):
                    exceptions[name] = [(register.at - EPOCH) // MICROSECOND, register.rank]
    clocks["exceptions"] = exceptions or None
    core = fields.get("status")
    hidden = known.deleted and core is not None and core.value != DELETED
    clocks["core_status"] = (core.value or "") if hidden and core is not None else None
    clocks["shown_digest"] = _digest(known, clocks["core_at"], exceptions)
    return clocks


def _digest(known: KnownState, core_at: datetime | None, exceptions: Mapping[str, Any]) -> int | None:
    """The digest of the list fields, where a later page with the same record would move nothing but their time.

    So all of them are as of one time, and there never was evidence of a deletion.
    """
    if core_at is None or core_at != known.shown_at or known.deletion_evidence_at or not _LISTED.isdisjoint(exceptions):
        return None
    return digest_of(tuple(_in_utc(known.fields[name].value) for name in LIST_COLUMNS))


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _newest(fields: Mapping[str, Register], names: tuple[str, ...]) -> datetime | None:
    """The newest time of some fields; mostly they share one, which is then one object."""
    newest = None
    for name in names:
        register = fields.get(name)
        if register is not None and register.at is not newest and (newest is None or register.at > newest):
            newest = register.at
    return newest


def _rank(status: Register | None, at: datetime) -> int:
    """The rank of the core's fields, where its status is known as of the group's time."""
    return RANKS.get(status.value or "", 0) if status and status.at == at else 0
