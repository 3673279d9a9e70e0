"""Tables of commands: what a narrow terminal shows, and values in plain words."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.cli.moments import parse_ago
from service.cli.output import format_value
from service.cli.table import GAP, fit, print_rows

NATURAL = {"id": 24, "status": 10, "title": 40, "email": 30, "created_at": 20}


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (132, NATURAL),
        (120, {**NATURAL, "email": 29, "title": 29}),
        (86, {**NATURAL, "email": 12, "title": 12}),
        # One column less, and the texts share the room.
        (85, {"id": 24, "status": 10, "title": 23, "email": 22}),
        (40, {"id": 24, "status": 10}),
        (10, {"id": 24}),
    ],
)
def test_columns_fit_their_room_and_ids_stay_whole(room: int, widths: dict[str, int]) -> None:
    found = fit(NATURAL, room)
    assert found == widths
    assert len(found) == 1 or sum(found.values()) + GAP * (len(found) - 1) <= room


def test_table_fits_the_terminal_and_names_what_it_hides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row: dict[str, Any] = {
        "id": "5" * 24,
        "status": "active",
        "title": "Zoë " * 20,
        "created_at": "2026-01-01 00:00:00Z",
    }
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 24)))
    print_rows([row, row], tuple(row), as_json=False, empty="No models.")
    printed = capsys.readouterr()
    header, *lines = printed.out.splitlines()
    assert header.split() == ["id", "status", "title"]
    assert len(lines) == 2
    assert all(len(line) <= 60 and line.startswith("5" * 24) and "…" in line for line in lines)
    assert printed.err == "Not shown in a terminal of 60 columns: created_at. --json prints everything.\n"


def test_table_that_is_piped_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"id": "x" * 200, "title": "y" * 200}], ("id", "title"), as_json=False, empty="None.")
    assert f"{'x' * 200}  {'y' * 200}" in capsys.readouterr().out


def test_table_without_rows_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], ("id",), as_json=False, empty="No models.")
    assert capsys.readouterr().out == "No models.\n"
    print_rows([], ("id",), as_json=True, empty="No models.")
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        ({"status": 401}, "status 401"),
        ({"rows": 2, "models": ["a", "b"]}, "rows 2; models a, b"),
        ({"since": None}, "since -"),
        ([], "-"),
        ({}, "-"),
        (["\x1b[2J"], "\\x1b[2J"),
    ],
)
def test_values_are_printed_in_words(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("2D", timedelta(days=2)),
        ("3w", timedelta(weeks=3)),
        ("1", None),
        ("h", None),
        ("-1h", None),
        ("2026-01-01", None),
    ],
)
def test_a_duration_is_a_time_so_far_back(text: str, ago: timedelta | None) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_ago(text, now) == (None if ago is None else now - ago)
