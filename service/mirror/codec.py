"""The known state as rows: the visible row of `models` and the narrow row of `model_clocks`, both ways.

A group is stored as one time; the profile's is that of the newest API response that showed the model at all.
The few fields that are not known as of their group's time, because a source left them out, are kept as exceptions; the
value of each is in the visible row.

A digest is derived, of a model's list fields: where a page's record has that of the known state, it reports nothing new
and confirms the whole row. A record without a digest is for the merge alone: it leaves a field or the status out, or
shows the model as deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from operator import attrgetter
from struct import unpack
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from service.mirror.merge import CORE, GROUPS, NOTHING_KNOWN, PROFILE, RANKS, KnownState, Register
from service.model_fields import DELETED, Source, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.upstream.payloads import ListedModel

LIST_COLUMNS = columns_of(Source.LIST)
_STATUS = LIST_COLUMNS.index("status")
_values_of = attrgetter(*LIST_COLUMNS)
_ENCODER = msgspec.json.Encoder()
# Statuses of a record that SQL may not confirm.
_FOR_THE_MERGE = (None, "", DELETED)
# A copy costs a quarter less than a new one with this option.
_EMPTY = blake2b(digest_size=8)


def digests_of(models: Iterable[ListedModel]) -> list[int | None]:
    """The digests of a page's records, as `digest_of` makes them; all records are encoded by one call."""
    values = [_values_of(model) for model in models]
    try:
        lines = _ENCODER.encode_lines(values).split(b"\n")
    except TypeError:
        # A field is absent from a record.
        return [digest_of(one) for one in values]
    return [
        digest if one[_STATUS] not in _FOR_THE_MERGE else None
        for one, digest in zip(values, _digests_of_lines(lines[: len(values)]), strict=True)
    ]


def digest_of(values: tuple[Any, ...]) -> int | None:
    """The digest of the values of `LIST_COLUMNS`, times in UTC: 64 bits, signed."""
    if UNSET in values or values[_STATUS] in _FOR_THE_MERGE:
        return None
    (digest,) = _digests_of_lines([_ENCODER.encode(values)])
    return digest


def _digests_of_lines(lines: Sequence[bytes]) -> tuple[int, ...]:
    digests: list[bytes] = []
    for line in lines:
        digest = _EMPTY.copy()
        digest.update(line)
        digests.append(digest.digest())
    return unpack(f">{len(lines)}q", b"".join(digests))


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
            # The core's fields have a rank where the status is known as of the group's time.
            status = fields.get("status") if names is CORE else None
            rank = RANKS.get(status.value or "", 0) if status and status.at == at else 0
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
    return digest_of(tuple(in_utc(known.fields[name].value) for name in LIST_COLUMNS))


def in_utc(value: Any) -> Any:
    """The value of a column; a time in UTC, whatever zone the connection shows it in."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _newest(fields: Mapping[str, Register], names: tuple[str, ...]) -> datetime | None:
    """The newest time of some fields; mostly they share one, which is then one object."""
    newest = None
    for name in names:
        register = fields.get(name)
        if register is not None and register.at is not newest and (newest is None or register.at > newest):
            newest = register.at
    return newest
