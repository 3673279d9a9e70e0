"""A page gives way to deliveries while it is made: a web process does one thing at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.config import environment
from service.web.console import limits
from service.web.console.limits import ROWS_IN_A_TURN, in_turns
from service.web.console.presentation import PARTS_OF_A_PIECE
from tests.support.console import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.testing import FlaskClient


ROWS, PARTS = 50, 2000
FILL = """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at)
    select n, 'active', '{}', 'pull', now(), now() from generate_series(1, 60) as n;
    insert into headshotpro.webhook_events
        (id, event, model_id, status, payload, created_at, received_at, signed_at, processed_at, deliveries)
    select 'evt_' || n, 'model.status.updated', n, 'applied', '{}', now(), now(), now(), now(), 1
    from generate_series(1, 60) as n;
    insert into headshotpro.models (id, status, observed_at, updated_at)
    select n, 'active', now(), now() from generate_series(1, 60) as n;
    insert into headshotpro.status_samples (at, models)
    select now() - make_interval(mins => 10 * n), '{"active": 7}' from generate_series(1, 140) as n;
"""
# A worker is a fork of this process: it may compile nothing.
PREPARED = """
import jinja2
from service import config
from service.web import REQUIRED_SETTINGS, create_app, start
settings = config.load(REQUIRED_SETTINGS)
start.prepare(settings)
jinja2.Environment.compile = None
print(create_app(settings).test_client().get("/console/login").status_code)
"""


@pytest.fixture(scope="module")
def database(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute(FILL)
        body = json.dumps({str(n): n for n in range(PARTS // 2)})
        connection.execute("update headshotpro.webhook_events set payload = %s where id = 'evt_1'", [body])
    return database


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses in which others have their turn."""
    pauses: list[float] = []
    replace_sleep(monkeypatch, pauses.append)
    return pauses


def replace_sleep(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """For `limits` alone: other threads of this process sleep, too."""
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))


@pytest.mark.parametrize("path", ["changes", "events", "models"])
def test_list_gives_way_before_and_between_its_rows(browser: FlaskClient, turns: list[float], path: str) -> None:
    for headers in ({}, {"Console-Part": "main"}):
        turns.clear()
        page = browser.get(f"/console/{path}", headers=headers).text
        assert page.count("<tr") >= ROWS
        assert len(turns) >= 1 + ROWS // ROWS_IN_A_TURN
        assert min(turns) > 0


def test_long_body_of_an_event_gives_way(browser: FlaskClient, turns: list[float]) -> None:
    page = browser.get("/console/events/evt_1").text
    assert page.count('<span class="key">') == PARTS // 2
    assert len(turns) >= PARTS // PARTS_OF_A_PIECE // ROWS_IN_A_TURN


def test_charts_give_way(browser: FlaskClient, turns: list[float]) -> None:
    page = browser.get("/console/").text
    assert len(turns) >= page.count("<time data-clock") // ROWS_IN_A_TURN > 20


def test_rows_are_made_a_few_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    replace_sleep(monkeypatch, lambda _seconds: done.append("others"))
    done.extend(in_turns(range(ROWS_IN_A_TURN + 2)))
    assert done == [*range(ROWS_IN_A_TURN), "others", ROWS_IN_A_TURN, ROWS_IN_A_TURN + 1]


def test_web_compiles_its_templates_before_it_forks(database: str, redis_url: str) -> None:
    settings = environment(DATABASE_URL=database, REDIS_URL=redis_url, CONSOLE_PASSWORD=OPERATOR)
    done = subprocess.run([sys.executable, "-c", PREPARED], capture_output=True, text=True, check=True, env=settings)
    assert done.stdout.split() == ["200"]
