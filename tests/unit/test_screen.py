"""The live view of `up`: the same facts on a terminal and in lines."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from service.local.gauge import NOT_READ, Reading, describe
from service.local.screen import Screen

READING = Reading(
    verdict="PROBLEM: no worker seen for 25 s",
    applied=41,
    rate=2.5,
    waiting=3,
    lag=1.5,
    models={"active": 400, "onboarding": 200, "failed": 1, "deleted": 0},
    pull_age=61.2,
    event_age=2.1,
)
PROCESSES = {"web": "runs", "worker": "ended"}
FACTS = (
    "PROBLEM: no worker seen for 25 s", "41 events applied, 2.5 a second, 3 waiting, lag 1.5 s", "pulled 61 s ago",
    "last event 2 s ago", "worker ended",
)  # fmt: skip


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self) -> bool:
        return True


def plain(terminal: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_terminal_shows_bars_and_the_facts_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show(READING, PROCESSES)
        screen.say("worker ended: press Ctrl-C")
    shown = plain(terminal)
    for fact in FACTS:
        assert fact in shown
        assert fact in describe(READING, PROCESSES)
    bars = {name: shown.count("█", (place := shown.index(f"  {name} ")), place + 80) for name in ("active", "failed")}
    assert bars == {"active": 40, "failed": 1}
    assert "worker ended: press Ctrl-C" in shown


def test_command_on_a_terminal_is_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    command = f"curl -s {'x' * 100} y"
    with Screen(terminal) as screen:
        screen.row("request", command)
        screen.show(READING, PROCESSES)
        screen.say(command)
    assert plain(terminal).count(command) == 2


def test_first_line_and_view_say_not_read_yet() -> None:
    line = describe(NOT_READ, {"web": "runs"})
    assert line.partition("  ")[2] == "starting | not read yet | 1 processes run"
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show(NOT_READ, {"web": "runs"})
    assert re.search(r"events +not read yet *\r?\n.*freshness +not read yet", plain(terminal))


@pytest.mark.parametrize("words", ["OK", "starting"])
def test_verdict_is_a_problem_while_a_process_has_ended(words: str) -> None:
    reading = replace(READING, verdict=words)
    assert f"  {words} | " in describe(reading, {"web": "runs"})
    assert "  PROBLEM: worker ended | " in describe(reading, PROCESSES)
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show(reading, PROCESSES)
    assert re.search(r"mirror +PROBLEM: worker ended", plain(terminal))


def test_line_says_what_has_not_happened_yet() -> None:
    line = describe(Reading(applied=0, rate=0.0, waiting=0, lag=0.0, models={}), {"web": "runs"})
    assert line.partition("  ")[2] == (
        "starting | 0 events applied, 0.0 a second, 0 waiting, lag 0.0 s | 0 models | "
        "not pulled yet, no event yet | 1 processes run"
    )


def test_figures_of_unavailable_servers_are_shown_as_unknown() -> None:
    reading = Reading(verdict="PROBLEM: Postgres is unavailable: refused")
    line = describe(reading, {"web": "runs"})
    assert line.partition("  ")[2] == (
        "PROBLEM: Postgres is unavailable: refused | - events applied, - a second, - waiting, lag - | - models | "
        "last pull -, last event - | 1 processes run"
    )
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show(reading, {"web": "runs"})
    assert "- events applied, - a second, - waiting, lag -" in plain(terminal)
    assert "last pull -, last event -" in plain(terminal)
