"""What the fields of the vendor's payloads have in common: their types, UTC times and what must not be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, UnsetType

Text: TypeAlias = str | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None
Count: TypeAlias = int | UnsetType | None
Time: TypeAlias = datetime | UnsetType | None
SomeText: TypeAlias = Annotated[str, Meta(min_length=1)]

# Personal data, and a link that logs its holder in: shown by no repr, and so by no traceback or log line.
_HIDDEN = frozenset({"email", "title", "signed_url"})


class Payload(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of everything the vendor sends."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, "…" if name in _HIDDEN and value else value) for name, value in values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def utc(time: datetime) -> datetime:
    """The same instant in UTC; a time without a zone counts as UTC.

    Raises:
        ValueError: it lies outside the years 1 to 9999 in UTC.
    """
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("time out of range") from None


def times_to_utc(payload: Payload, *names: str) -> None:
    """Put the named times of a payload that was just decoded into UTC.

    Raises:
        ValueError: one lies outside the years 1 to 9999 in UTC; msgspec makes it a ValidationError.
    """
    for name in names:
        time = getattr(payload, name)
        if time and time.tzinfo is not UTC:
            msgspec.structs.force_setattr(payload, name, utc(time))
