"""How the console writes values."""

from __future__ import annotations

import pytest

from service.web.console.presentation import Names, stored_time


def test_times_of_a_stored_change_read_as_other_times_do() -> None:
    names = Names(shown=True)
    assert names.text("2026-11-29T19:13:02.582000+00:00", "created_at") == "2026-11-29 19:13:02.582 UTC"
    assert names.text("2026-11-29T19:13:02.582000+00:00", "title") == "2026-11-29T19:13:02.582000+00:00"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("4711", "4711"),
        ("20260101", "20260101"),
        ("yester\x1bday", "yester\\x1bday"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("2026-11-29T19:13", "2026-11-29 19:13:00.000 UTC"),
        ("2026-11-29T19:13+02:00", "2026-11-29 17:13:00.000 UTC"),
    ],
)
def test_text_that_is_no_time_is_shown_as_it_is(value: str, shown: str) -> None:
    assert stored_time(value) == shown
