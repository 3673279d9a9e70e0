"""Reading a record field by field: a field that cannot be used is absent, and the rest of the record is kept."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import NODEFAULT

from service.upstream.fields import IDS, INDEXED, NonEmptyText, Payload, Text, to_storable

if TYPE_CHECKING:
    from msgspec.structs import FieldInfo

P = TypeVar("P", bound=Payload)


class PartialRecord(NamedTuple, Generic[P]):
    """A record, and the fields of it that could not be read.

    Attributes:
        value: the record; each unusable field of it is `UNSET`, as if the upstream had not sent it.
        unusable: the names of these fields as the upstream spells them, in the order of the type.
    """

    value: P
    unusable: tuple[str, ...]


def read_fields(raw: object, kind: type[P]) -> PartialRecord[P]:
    """Read a decoded JSON object as a payload, field by field.

    A field is unusable where its value has another type than the payload's, is out of range, or does not fit into an
    index (`service.upstream.fields.to_storable`). Unknown fields are passed over.

    Args:
        raw: what the decoder made of the JSON; texts in it can be stored (`service.upstream.json_text.loads`).
        kind: the payload's type.

    Raises:
        ValueError: it is no object, or a field that the type requires is missing or unusable; the message names the
            field and holds no value.
    """
    if not isinstance(raw, dict):
        raise ValueError("the record is no object")  # noqa: TRY004 - one kind of error for every unreadable record
    values: dict[str, object] = {}
    unusable: list[str] = []
    for field in _fields(kind):
        if field.encode_name in raw:
            try:
                values[field.name] = to_storable(field.name, msgspec.convert(raw[field.encode_name], _type_of(field)))
            except ValueError:
                unusable.append(field.encode_name)
        if field.default is NODEFAULT and field.name not in values:
            raise ValueError(f"`{field.encode_name}` is missing or cannot be used")
    return PartialRecord(kind(**values), tuple(unusable))


def _type_of(field: FieldInfo) -> Any:
    """The type of a field; the length of a text that an index holds is `to_storable`'s to judge."""
    return Text if field.name in INDEXED else NonEmptyText if field.name in IDS else field.type


@cache
def _fields(kind: type[Payload]) -> tuple[FieldInfo, ...]:
    return msgspec.structs.fields(kind)
