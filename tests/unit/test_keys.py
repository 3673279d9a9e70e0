"""Bearer keys: who may read, who may write, and that nobody may where no key is given."""

from __future__ import annotations

import pytest

from service.web.keys import Keys

KEYS = Keys(("full", "ro:look", "twice", "ro:twice", "ro:", "schlüssel"))


@pytest.mark.parametrize(
    ("header", "reads", "writes"),
    [
        ("Bearer full", True, True),
        ("bearer full", True, True),
        ("Bearer  full ", True, True),
        ("Bearer look", True, False),
        ("Bearer twice", True, True),
        ("Bearer schlüssel".encode().decode("latin-1"), True, True),
        # The marker is no part of the key, and a key that is nothing but the marker is none.
        ("Bearer ro:look", False, False),
        ("Bearer ro:", False, False),
        ("Bearer ", False, False),
        ("Bearer", False, False),
        ("Bearer ful", False, False),
        ("Bearer fulll", False, False),
        ("Basic full", False, False),
        ("full", False, False),
        ("", False, False),
        (None, False, False),
        ("Bearer \udcff€", False, False),
    ],
)
def test_a_key_allows_what_it_is_for(header: str | None, reads: bool, writes: bool) -> None:
    assert (KEYS.allows(header, write=False), KEYS.allows(header, write=True)) == (reads, writes)


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer x"])
def test_without_keys_nobody_may_do_anything(header: str | None) -> None:
    assert not Keys(()).allows(header, write=False)
