"""Knowledge as rows: the visible row of `models` and the narrow row of `model_clocks`, both ways.

A group is stored as one time. The few fields that are not known as of their group's time, because a webhook left
them out, are kept as exceptions; the value of each is in the visible row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.mirror.merge import CORE, DELETED, GROUPS, NOTHING, RANKS, Knowledge, Register, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

PLAIN_CLOCKS = ("alive_at", "gone_from", "gone_at", "deleted_said", "until")


def decode(row: Mapping[str, Any] | None, clocks: Mapping[str, Any]) -> Knowledge:
    """What two rows say is known of a model; `NOTHING` where it has no visible row yet."""
    if row is None:
        return NOTHING
    exceptions = clocks["exceptions"] or {}
    hidden = clocks["core_status"]
    # An empty text stands for a null status below a tombstone.
    status = row["status"] if hidden is None else hidden or None
    rank = 0 if "status" in exceptions else RANKS.get(status or "", 0)
    fields: dict[str, Register] = {}
    for group, names in GROUPS.items():
        at = clocks[f"{group}_at"]
        if at is None:
            continue
        base = rank if names is CORE else 0
        for name in names:
            value = status if name == "status" else row[name]
            if name not in exceptions:
                fields[name] = Register(at, base, value)
            elif exceptions[name] is not None:
                microseconds, own_rank = exceptions[name]
                fields[name] = Register(EPOCH + microseconds * MICROSECOND, own_rank, value)
    return Knowledge(fields, **{name: clocks[name] for name in PLAIN_CLOCKS})


def encode(known: Knowledge) -> tuple[dict[str, Any], dict[str, Any]]:
    """The observed columns of `models`, and the columns of `model_clocks`."""
    row = visible(known)
    clocks: dict[str, Any] = {name: getattr(known, name) for name in PLAIN_CLOCKS}
    exceptions: dict[str, Any] = {}
    for group, names in GROUPS.items():
        clocks[f"{group}_at"] = at = max(
            (known.fields[name].at for name in names if name in known.fields), default=None
        )
        if at is not None:
            exceptions.update(_exceptions(known, names, at))
    clocks["exceptions"] = exceptions or None
    core = known.fields.get("status")
    hidden = row["status"] == DELETED and core is not None and core.value != DELETED
    clocks["core_status"] = (core.value or "") if hidden and core is not None else None
    return row, clocks


def _exceptions(known: Knowledge, names: tuple[str, ...], at: datetime) -> dict[str, Any]:
    """The fields of a group that are not known as of its time and rank."""
    rank = 0
    if names is CORE and "status" in known.fields and known.fields["status"].at == at:
        rank = RANKS.get(known.fields["status"].value or "", 0)
    exceptions: dict[str, Any] = {}
    for name in names:
        register = known.fields.get(name)
        if register is None:
            exceptions[name] = None
        elif (register.at, register.rank) != (at, rank):
            exceptions[name] = [(register.at - EPOCH) // MICROSECOND, register.rank]
    return exceptions
