"""The fields of the vendor's payloads: types, UTC times, reading them one by one, and what must not be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, UnsetType

from service.model_fields import FIELDS, Kind, Source, fields_of
from service.struct_fields import with_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec.structs import FieldInfo

Text: TypeAlias = str | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None
# Not more than Postgres' integer holds.
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)] | UnsetType | None
Time: TypeAlias = datetime | UnsetType | None
NonEmptyText: TypeAlias = Annotated[str, Meta(min_length=1)]

# Texts of up to this many characters fit wherever a text is indexed: a character takes four bytes at most.
MAX_ID_BYTES = 255
_SHORT = MAX_ID_BYTES // 4
ShortId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=_SHORT)]

_TYPES: dict[Kind, Any] = {
    Kind.TEXT: Text,
    Kind.ID: Text,
    Kind.WORD: Text,
    Kind.FLAG: Flag,
    Kind.COUNT: Count,
    Kind.TIME: Time,
}

# A key of Postgres' indexes holds 2,700 bytes. An index may hold an id, a team and a status together.
MAX_INDEXED_BYTES = 1000
INDEXED = frozenset(field.column for field in FIELDS if field.indexed)
IDS = frozenset({"id", "model_id"})

# Personal data, and a link that logs its holder in: shown by no repr, and so by no traceback or log line.
_HIDDEN = frozenset({"signed_url", *(field.column for field in FIELDS if field.personal)})


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of everything the vendor sends; trees of values, in which Python has no cycle to look for."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, "…" if name in _HIDDEN and value else value) for name, value in values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


P = TypeVar("P", bound=Payload)

_fields = cache(msgspec.structs.fields)


def utc(time: datetime) -> datetime:
    """The same instant in UTC; a time without a zone counts as UTC.

    Raises:
        ValueError: it is outside the years 1 to 9999 in UTC.
    """
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("time out of range") from None


def is_valid_model_id(model_id: str) -> bool:
    """Whether a row can have this id, and a request can ask about it.

    A path that ends with dots alone means another resource (RFC 3986, section 5.2.4), the whole list perhaps.
    """
    return bool(model_id.strip(".")) and len(model_id.encode("utf-8", "replace")) <= MAX_ID_BYTES


def to_storable(name: str, value: Any) -> Any:
    """A field's value as it is stored: times in UTC, texts as long as their index allows, ids not of dots alone.

    Raises:
        ValueError: it cannot be stored; the message holds no value.
    """
    if isinstance(value, datetime):
        return utc(value)
    longest = MAX_INDEXED_BYTES if name in INDEXED else MAX_ID_BYTES if name in IDS else None
    # A character takes four bytes at most: nearly every text is short enough without being encoded.
    if longest and isinstance(value, str) and 4 * len(value) > longest and len(value.encode()) > longest:
        raise ValueError(f"`{name}` is longer than {longest} bytes")
    if name in IDS and isinstance(value, str) and not value.strip("."):
        raise ValueError(f"`{name}` is only dots")
    return value


def with_model_fields(source: Source) -> Callable[[type[P]], type[P]]:
    """Class decorator: a payload with every field of a model that a source sends; texts that an index holds are short.

    Nearly every record is like that, so msgspec reads it whole, and checks the lengths. `read_fields` reads all others.
    """
    short = Annotated[str, Meta(max_length=_SHORT)] | UnsetType | None
    return with_fields(
        [
            (
                field.column,
                short if field.indexed else _TYPES[field.kind],
                msgspec.field(default=UNSET, name=field.name_in(source)),
            )
            for field in fields_of(source)
        ]
    )


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
    index (`to_storable`). Unknown fields are passed over. Texts in `raw` can be stored, as those of `json_text.loads`.

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
