"""The figures of the console's overview and settings, and where they come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from service.storage import database, status_report
from tests.support.cli import NO_REDIS
from tests.support.console import OPERATOR, VIEWER, console, log_in
from tests.support.console_world import ATTACKS, fill
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

MADE = """
    insert into headshotpro.models (id, status, observed_at, updated_at)
    select n::text, (array['active', 'failed'])[1 + n % 2], now(), now() from generate_series(1, 10) as n
"""


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_sample_is_added_every_five_minutes_for_one_month(database_url: str) -> None:
    execute(database_url, MADE)
    engine = database.connect(database_url)

    def sample() -> list[dict[str, int]]:
        with database.transaction(engine) as connection:
            status_report.add_sample_if_due(connection)
        return [
            row["models"] for row in rows(database_url, "select models from headshotpro.status_samples order by at")
        ]

    assert sample() == sample() == [{"active": 5, "failed": 5}]
    execute(database_url, "update headshotpro.status_samples set at = at - interval '301 seconds'")
    assert len(sample()) == 2
    execute(database_url, "update headshotpro.status_samples set at = at - interval '31 days'")
    assert len(sample()) == 1
    engine.dispose()


def test_series_has_the_last_sample_of_each_step(database_url: str) -> None:
    execute(
        database_url,
        "insert into headshotpro.status_samples (at, models) select to_timestamp(3600 * n) + make_interval(mins => m), "
        "jsonb_build_object('active', 100 * n + m) from generate_series("
        "(extract(epoch from now())::bigint / 3600) - 3, (extract(epoch from now())::bigint / 3600) - 1) as n, "
        "generate_series(0, 50, 10) as m",
    )
    engine = database.connect(database_url)
    with database.transaction(engine) as connection:
        found = status_report.sample_series(connection, hours=5, step_seconds=3600)
    engine.dispose()
    assert [row["at"].timestamp() % 3600 for row in found] == [0, 0, 0]
    assert [row["models"]["active"] % 100 for row in found] == [50, 50, 50]
    assert [row["at"] for row in found] == sorted(row["at"] for row in found)


def test_figures_of_the_overview_read_no_row_of_models(database_url: str) -> None:
    """A page that counted a million models would take longer than its reader waits."""
    (plan,) = rows(database_url, f"explain (format json) {status_report._NOW}")
    read = set(re.findall(r"'Relation Name': '(\w+)'", str(plan)))
    assert {"pulls", "webhook_events", "alerts"} <= read
    assert "models" not in read


def test_overview_shows_problems_with_what_to_do(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    page = browser.get("/console/").text
    assert "no worker is running" in page
    assert "start <code>headshot-mirror worker</code>" in page


@pytest.mark.parametrize("path", ["/console/", "/console/alerts", "/console/alerts/1", "/console/settings?doctor=1"])
def test_console_beside_up_advises_to_run_it_again(
    folder: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("RUN_BY_UP", ".headshot-mirror/sandbox:postgres:redis")
    execute(database_url, "insert into headshotpro.alerts (kind, opened_at) values ('worker_missing', now())")
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    page = browser.get(path).text
    assert "end <code>up</code> and run it again; .headshot-mirror/sandbox/worker.log says why it ended" in page
    assert "start <code>headshot-mirror worker</code>" not in page


def test_overview_without_redis_says_what_is_unknown(folder: Path, database_url: str) -> None:
    browser = console(folder, database_url, NO_REDIS)
    log_in(browser)
    page = browser.get("/console/").text
    assert "inbox and spool are empty" not in page
    assert page.count("unknown: Redis is unavailable") == 3


def test_overview_counts_models_anew_after_a_rest(folder: Path, database_url: str, redis_url: str) -> None:
    execute(database_url, MADE)
    sample = """insert into headshotpro.status_samples values (now() - interval '10 minutes', '{"active": 7}')"""
    execute(database_url, sample)
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    page = browser.get("/console/").text
    assert "Models by status <small>counted" in page
    shown = page.partition("Models by status</caption>")[2].partition("</tbody>")[0]
    assert re.findall(r'class="number fit">(\d+)<', shown) == ["5", "5"]


def test_settings_show_values_and_no_secret(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(
        folder, database_url, redis_url, PULL_INTERVAL_SECONDS="901", MIRROR_API_KEYS="reports=ro:hunter2hunter2"
    )
    log_in(browser, VIEWER)
    page = browser.get("/console/settings?doctor=1").text
    assert re.search(r"PULL_INTERVAL_SECONDS</code></td><td>901</td>", page)
    for secret in (OPERATOR, VIEWER, "hunter2", "5e" * 32, database_url.partition("@")[0]):
        assert secret not in page
    # Problems come before checks that passed.
    assert page.index("BAD") < page.index(">ok<")


def test_names_are_hidden_where_the_setting_says_so(folder: Path, database_url: str, redis_url: str) -> None:
    fill(database_url)
    browser = console(folder, database_url, redis_url, CONSOLE_SHOW_NAMES="0")
    log_in(browser)
    page = browser.get("/console/alerts")
    assert page.status_code == 200
    assert "names are hidden" in page.text


@pytest.mark.parametrize("path", ["/console/alerts", "/console/alerts?kind=%3Cscript%3E", "/console/<b>nowhere</b>"])
def test_text_from_outside_is_escaped(folder: Path, database_url: str, redis_url: str, path: str) -> None:
    fill(database_url)
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    page = browser.get(path).text
    assert ATTACKS[0] not in page
    assert "<b>nowhere" not in page
    assert "<script>" not in page
    assert "<img" not in page


def test_page_without_a_change_is_not_sent_again(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(folder, database_url, redis_url)
    log_in(browser)
    tag = browser.get("/console/alerts").headers["ETag"]
    same = browser.get("/console/alerts", headers={"If-None-Match": tag})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["Cache-Control"] == "no-store"
    execute(database_url, "insert into headshotpro.alerts (kind, opened_at) values ('pull_stale', now())")
    changed = browser.get("/console/alerts", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    assert "ETag" not in browser.get("/console/nowhere").headers
