"""The live view of `up`: the same facts on a terminal and in lines."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from service.local.screen import Screen, describe

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
STATE: Any = SimpleNamespace(
    verdict="PROBLEM: no worker seen for 25 s",
    events_waiting=3,
    oldest_waiting_seconds=1.5,
    figures=SimpleNamespace(
        models={"onboarding": 200, "active": 400, "failed": 1, "deleted": 0},
        pull_age_seconds=61.2,
        last_event_at=NOW - timedelta(seconds=2),
    ),
    facts=SimpleNamespace(now=NOW),
)
ENDED = {"web": False, "worker": True}
FACTS = [
    "PROBLEM: no worker seen for 25 s",
    "3 events waiting, lag 1.5 s",
    "601 models: active 400, onboarding 200, failed 1, deleted 0",
    "pulled 61 s ago, last event 2 s ago",
    "worker ended",
]


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self) -> bool:
        return True


def plain(terminal: Terminal) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_terminal_and_line_show_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    terminal, pipe = Terminal(), io.StringIO()
    with Screen(terminal) as screen:
        screen.show(STATE, ENDED)
        screen.say("worker ended: press Ctrl-C")
    Screen(pipe).show(STATE, ENDED)
    assert pipe.getvalue().partition("  ")[2] == f"{' | '.join(FACTS)}\n"
    shown = plain(terminal)
    assert [fact for fact in FACTS if fact not in shown] == []
    assert "worker ended: press Ctrl-C" in shown


def test_command_on_a_terminal_is_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    command = f"curl -s {'x' * 100} y"
    with Screen(terminal) as screen:
        screen.row("request", command)
        screen.show(STATE, ENDED)
        screen.say(command)
    assert plain(terminal).count(command) == 2


def test_first_line_and_view_say_not_read_yet() -> None:
    assert list(describe(None, {"web": False}).values()) == ["starting", "not read yet", "1 processes run"]
    terminal = Terminal()
    with Screen(terminal) as screen:
        screen.show(None, {"web": False})
    assert re.search(r"events +not read yet", plain(terminal))


def test_line_says_what_is_not_known_yet() -> None:
    state: Any = SimpleNamespace(
        verdict="starting",
        events_waiting=None,
        oldest_waiting_seconds=None,
        figures=None,
        facts=SimpleNamespace(now=None),
    )
    assert " | ".join(describe(state, {"web": False}).values()) == (
        "starting | unknown events waiting, lag 0.0 s | 0 models | not pulled yet, no event yet | 1 processes run"
    )
