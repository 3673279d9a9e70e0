"""Structs with a part of their fields from a list: the class itself names those that code uses."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from msgspec import NODEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

S = TypeVar("S", bound=msgspec.Struct)


def with_fields(fields: Sequence[tuple[str, Any, Any]]) -> Callable[[type[S]], type[S]]:
    """Class decorator: make the struct anew, with fields in this order: its required ones, the given ones, its others.

    A given field that the class declares as well is declared for the type checker: the given one counts.

    Args:
        fields: name, type and `msgspec.field` of each; one that a base of the class has is left out.
    """

    def make(declared: type[S]) -> type[S]:
        inherited = {name for base in declared.__bases__ for name in getattr(base, "__struct_fields__", ())}
        given = {field[0] for field in fields}
        required: list[tuple[str, Any, Any]] = []
        optional: list[tuple[str, Any, Any]] = []
        for own in msgspec.structs.fields(declared):
            if own.name in inherited or own.name in given:
                continue
            field = msgspec.field(default=own.default, name=own.encode_name)
            (required if own.default is NODEFAULT else optional).append((own.name, own.type, field))
        kinds = (FunctionType, property, classmethod, staticmethod)
        methods = {name: value for name, value in vars(declared).items() if isinstance(value, kinds)}
        made = msgspec.defstruct(
            declared.__name__,
            [*required, *(field for field in fields if field[0] not in inherited), *optional],
            bases=declared.__bases__,
            module=declared.__module__,
            namespace={"__doc__": declared.__doc__, **methods},
            frozen=True,
            kw_only=True,
        )
        return cast("type[S]", made)

    return make
