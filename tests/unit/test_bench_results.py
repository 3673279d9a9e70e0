"""The file of results: a bench that was not run this time keeps its part."""

from __future__ import annotations

from bench.__main__ import BENCHES, HEAD, MARK, known_parts


def test_each_part_is_found_again() -> None:
    parts = {"webhooks": "## Door\n\nfast\n", "pulls": "## Pulls\n\n| a |\n\nb\n"}
    written = HEAD + "".join(MARK.format(bench) + parts[bench] for bench in BENCHES if bench in parts)
    assert known_parts(written) == parts
    assert known_parts(HEAD) == {}
