"""How the console writes values."""

from __future__ import annotations

from service.web.console.presentation import Names


def test_times_of_a_stored_change_read_as_other_times_do() -> None:
    names = Names(shown=True)
    assert names.text("2026-11-29T19:13:02.582000+00:00", "created_at") == "2026-11-29 19:13:02.582 UTC"
    assert names.text("2026-11-29T19:13:02.582000+00:00", "title") == "2026-11-29T19:13:02.582000+00:00"
