"""Text from outside is made harmless in one place, and every command goes through it."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest
import structlog

from service import log, redaction
from service.config import Settings
from service.local.gauge import Reading
from service.local.screen import Screen
from service.plain_text import MAX_INDENTED_GROWTH, MAX_LINE_LENGTH, escape_controls, indented_json, one_line

CLI = Path(__file__).parents[2] / "service" / "cli"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ann", "Ann"),
        ("Ännchen 北京 😀 e\u0301", "Ännchen 北京 😀 e\u0301"),
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("a\nb\r\tc\x00", "a\\nb\\r\\tc\\x00"),
        ("\x7f\x80\x9b\x9f\xa0", "\\x7f\\x80\\x9b\\x9f\xa0"),
        ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", "\\u202a\\u202e\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_obeys_is_spelled_out(text: str, shown: str) -> None:
    assert escape_controls(text) == shown
    assert escape_controls(shown) == shown


def test_line_breaks_of_our_own_stay() -> None:
    assert escape_controls("a\nb\x1b\r\n", lines=True) == "a\nb\\x1b\\r\n"


def test_one_line_is_one_line_and_no_longer_than_that() -> None:
    assert one_line(" a\r\n b\x1b[2J\u2028c ") == "a b [2J c"
    assert len(one_line("x" * 5000)) == MAX_LINE_LENGTH


def test_every_command_prints_through_the_output_module() -> None:
    found = [
        (path.name, line)
        for path in CLI.glob("*.py")
        for line in path.read_text().splitlines()
        if path.name != "output.py" and any(word in line for word in ("click.echo(", "click.secho(", " print("))
    ]
    assert found == []


def test_screen_of_up_obeys_nothing_from_outside() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.say("web ended; the last line of its log: \x1b[2J\nOK")
    screen.row("web", "\x1b[2J")
    screen.show(Reading(models={"\x1b[2J": 1}), {})
    *lines, last = out.getvalue().splitlines()
    assert lines == ["web ended; the last line of its log: \\x1b[2J\\nOK", "  web        \\x1b[2J"]
    assert " 1 models: \\x1b[2J 1 " in last


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_line_is_one_line_in_each_format(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    log.configure(Settings(log_format=log_format))  # type: ignore[arg-type]
    try:
        structlog.get_logger("x").error("job.refused", function="\x1b[2J\nOK\u202e", reason="\x9b")
    finally:
        structlog.reset_defaults()
    (line,) = stderr.getvalue().splitlines()
    assert not {"\x1b", "\x9b", "\u202e"} & set(line)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_line_cuts_what_is_too_long(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    log.configure(Settings(log_format=log_format))  # type: ignore[arg-type]
    try:
        structlog.get_logger("x").info("delivery", model_id="x" * 200_000, trace="t" * 5000)
        logging.getLogger("y").error("%s failed\n%s\nKeyError", "j" * 200_000, "a frame\n" * 50)
    finally:
        structlog.reset_defaults()
    said = stderr.getvalue()
    assert f"{'x' * 500}…{'x' * 500}" in said.replace("\\u2026", "…")
    assert "t" * 5000 in said
    assert "KeyError" in said
    assert len(said) < 20_000


def test_log_line_holds_no_half_of_a_secret_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    key = "hsp_0123456789abcdef0123456789abcdef01234567"
    log.configure(Settings(headshotpro_api_key=key))
    try:
        structlog.get_logger("x").info("delivery", reason="x" * 480 + key + "y" * 2000)
    finally:
        structlog.reset_defaults()
        redaction.register_secrets(())
    assert key[:12] not in stderr.getvalue()


def test_second_log_level_holds_for_loggers_already_used(capsys: pytest.CaptureFixture[str]) -> None:
    logger = structlog.get_logger("used under both levels")
    log.configure(Settings(log_level="error"))
    logger.info("below the level")
    log.configure(Settings(log_level="info"))
    logger.info("at the level")
    lines = capsys.readouterr().err
    assert "at the level" in lines
    assert "below the level" not in lines


def test_document_is_indented_unless_that_is_nearly_all_of_it() -> None:
    usual = {"object": {"_id": "m1", "tags": [1, 2]}, "title": "北京"}
    assert indented_json(usual) == json.dumps(usual, indent=2, ensure_ascii=False)
    deep: object = [[]] * 100_000
    for _ in range(900):
        deep = [deep]
    # Indented it has 181 million characters, and a web process made it for a minute.
    text = indented_json(deep)
    assert "\n" not in text
    assert json.loads(text) == deep
    wide = [0] * 10_000
    assert len(json.dumps(wide)) < len(indented_json(wide)) < MAX_INDENTED_GROWTH * len(json.dumps(wide))
