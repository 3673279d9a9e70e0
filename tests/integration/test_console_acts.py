"""Acts in the console: operators do each with one row in the audit log; viewers and forged forms do none."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.support.console import OPERATOR, VIEWER, console, log_in, token
from tests.support.console_world import HOSTILE_MODEL, MODEL, fill
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

TOMBSTONE = f"{1:024x}"
AUDITED = (
    "select actor, actor_kind, address, action, target, outcome from headshotpro.audit_log where actor_kind = 'console'"
)

# The act, its target, its name in the audit log, the target there, and a query that is true once it is done.
ACTS = (
    ("acknowledge", "1", "alerts.acknowledge", None,
     "select acknowledged_at is not null as done from headshotpro.alerts where id = 1"),
    ("refetch", HOSTILE_MODEL, "model.refetch", HOSTILE_MODEL,
     "select count(*) = 1 as done from headshotpro.refetch_requests where reason = 'dispute' and after is not null"),
    ("erase", TOMBSTONE, "model.erase", TOMBSTONE,
     f"select erased_at is not null and title is null as done from headshotpro.models where id = '{TOMBSTONE}'"),
    ("reject", "3", "pull.reject", "3", "select status = 'failed' as done from headshotpro.pulls where id = 3"),
    ("resolve", "1", "set_aside.resolve", "1",
     "select resolved_at is not null as done from headshotpro.set_aside where id = 1"),
)  # fmt: skip


@pytest.fixture
def url(database_url: str) -> str:
    fill(database_url)
    return database_url


def browser_of(tmp_path: Path, url: str, redis_url: str, password: str) -> FlaskClient:
    browser = console(tmp_path, url, redis_url)
    log_in(browser, password)
    return browser


def path_of(name: str, target: str) -> str:
    return f"/console/acts/{name}/{quote(target, safe='')}"


def test_operator_does_each_act_once_with_one_audit_row(tmp_path: Path, url: str, redis_url: str) -> None:
    browser = browser_of(tmp_path, url, redis_url, OPERATOR)
    for count, (name, target, action, audited, done) in enumerate(ACTS, 1):
        page = browser.get(path_of(name, target))
        assert page.status_code == 200
        assert rows(url, done) != [{"done": True}]
        sent = browser.post(path_of(name, target), data={"csrf_token": token(page)})
        assert (name, sent.status_code, rows(url, done)) == (name, 303, [{"done": True}])
        assert browser.get(sent.headers["Location"]).status_code == 200
        written = rows(url, f"{AUDITED} order by id")
        assert len(written) == count
        expected = {"actor": "operator", "actor_kind": "console", "address": "127.0.0.1", "outcome": "done"}
        assert written[-1] == {**expected, "action": action, "target": audited}


def test_viewer_and_forged_forms_do_nothing(tmp_path: Path, url: str, redis_url: str) -> None:
    viewer = browser_of(tmp_path, url, redis_url, VIEWER)
    csrf = token(viewer.get("/console/"))
    operator = browser_of(tmp_path, url, redis_url, OPERATOR)
    own = token(operator.get("/console/"))
    for name, target, _, _, done in ACTS:
        path = path_of(name, target)
        assert viewer.get(path).status_code == 403
        assert viewer.post(path, data={"csrf_token": csrf}).status_code == 403
        assert operator.post(path).status_code == 403
        assert operator.post(path, data={"csrf_token": csrf}).status_code == 403
        foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert operator.post(path, data={"csrf_token": own}, headers=foreign).status_code == 403
        assert rows(url, done) != [{"done": True}]
    assert rows(url, AUDITED) == []
    for path in ("/console/alerts", f"/console/models/{MODEL}", "/console/pulls/3", "/console/set-aside"):
        assert "/console/acts/" in operator.get(path).text
        assert "/console/acts/" not in viewer.get(path).text


@pytest.mark.parametrize(
    "case",
    [("acknowledge", "4711", 409), ("acknowledge", "x", 404), ("refetch", "unknown", 409), ("erase", MODEL, 409),
     ("reject", "1", 409), ("resolve", "9" * 19, 404), ("unknown", "1", 404)],
)  # fmt: skip
def test_act_that_cannot_be_done_changes_nothing_and_says_so(
    tmp_path: Path, url: str, redis_url: str, case: tuple[str, str, int]
) -> None:
    name, target, status = case
    browser = browser_of(tmp_path, url, redis_url, OPERATOR)
    response = browser.post(path_of(name, target), data={"csrf_token": token(browser.get("/console/"))})
    assert response.status_code == status
    assert rows(url, AUDITED) == []
