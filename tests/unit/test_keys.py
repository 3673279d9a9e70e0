"""Bearer keys of our own surface: who may read, who may write, and what is no key."""

from __future__ import annotations

import pytest

from service.web.keys import Keys, scope_of

KEYS = Keys(("writes", "ro:reads", "ünicode"))


@pytest.mark.parametrize(
    ("header", "reads", "writes"),
    [
        ("Bearer writes", True, True),
        ("bearer  writes ", True, True),
        ("Bearer reads", True, False),
        ("Bearer ro:reads", False, False),
        ("Bearer ünicode".encode().decode("latin-1"), True, True),
        ("Bearer write", False, False),
        ("Bearer writes2", False, False),
        ("Bearer \u20ac", False, False),
        ("Basic writes", False, False),
        ("writes", False, False),
        ("Bearer ", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_what_a_key_allows(header: str | None, reads: bool, writes: bool) -> None:
    assert KEYS.allows(header) is reads
    assert KEYS.allows(header, write=True) is writes


def test_without_keys_nobody_may_do_anything() -> None:
    assert not any(Keys(()).allows(header) for header in ("Bearer writes", "Bearer ", "", None))


def test_a_scope_tells_bearers_apart_and_not_their_keys() -> None:
    assert scope_of("Bearer one") == scope_of("bearer one") != scope_of("Bearer two")
    assert "one" not in scope_of("Bearer one")
