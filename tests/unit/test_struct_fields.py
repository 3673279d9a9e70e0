"""Structs with fields from a list keep what their class defines besides."""

from __future__ import annotations

import msgspec

from service.struct_fields import with_fields


@with_fields([("added", int, msgspec.field(default=2))])
class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A struct with one field of its own."""

    own: int
    added: int = 0

    @property
    def total(self) -> int:
        return self.own + self.added

    def doubled(self) -> int:
        return 2 * self.total

    @classmethod
    def first(cls) -> Sample:
        return cls(own=1)


def test_struct_with_added_fields_keeps_its_methods() -> None:
    assert Sample.first().doubled() == 6
