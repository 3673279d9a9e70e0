"""Every route of the console that writes, as the application lists them: no viewer and no forged request gets past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.web.console.acts import ACTS
from tests.support.console import OPERATOR, VIEWER, console, log_in, token
from tests.support.console_pages import PAGES
from tests.support.console_world import fill
from tests.support.system import rows

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

# A person without a session sends the one, and each session the other.
NO_ACTS = ("console.log_in", "console.log_out")
EXAMPLES = {"IntegerConverter": "1", "PathConverter": "x", "UnicodeConverter": "x"}
SAFE = {"GET", "HEAD", "OPTIONS"}
# All that an act could have touched.
STATE = """
    select (select count(*) from headshotpro.audit_log) as acts,
        (select count(*) from headshotpro.refetch_requests) as refetches,
        (select string_agg(p::text, ';' order by id) from headshotpro.pulls as p) as pulls,
        (select string_agg(a::text, ';' order by id) from headshotpro.alerts as a) as alerts,
        (select string_agg(s::text, ';' order by name) from headshotpro.subscriptions as s) as subscriptions,
        (select string_agg(e.id || e.status || e.processed_at::text, ';' order by id)
            from headshotpro.webhook_events as e) as events,
        (select string_agg(m::text, ';' order by id) from headshotpro.models as m) as models
"""


def paths_that_write(browser: FlaskClient) -> list[tuple[str, str]]:
    """The method and a path of each such route; the route of acts with each act."""
    found = []
    for rule in browser.application.url_map.iter_rules():
        if not rule.endpoint.startswith("console.") or rule.endpoint in NO_ACTS:
            continue
        values = {name: EXAMPLES[type(one).__name__] for name, one in rule._converters.items()}
        each = [{**values, "name": name} for name in ACTS] if rule.endpoint == "console.do_act" else [values]
        for method in sorted((rule.methods or set()) - SAFE):
            found += [(method, browser.application.url_map.bind("localhost").build(rule.endpoint, one, method=method))
                      for one in each]  # fmt: skip
    return found


@pytest.fixture
def url(database_url: str) -> str:
    fill(database_url)
    return database_url


def browser_of(folder: Path, url: str, redis_url: str, password: str = "", **settings: str) -> FlaskClient:
    browser = console(folder, url, redis_url, **settings)
    if password:
        log_in(browser, password)
    return browser


def test_no_route_that_writes_is_forgotten(folder: Path, url: str, redis_url: str) -> None:
    paths = paths_that_write(browser_of(folder, url, redis_url))
    assert {path for _, path in paths} >= {f"/console/acts/{name}/x" for name in ACTS}


def test_viewer_may_send_nothing(folder: Path, url: str, redis_url: str) -> None:
    viewer = browser_of(folder, url, redis_url, VIEWER)
    csrf, before = token(viewer.get("/console/")), rows(url, STATE)
    for method, path in paths_that_write(viewer):
        sent = viewer.open(path, method=method, data={"csrf_token": csrf})
        assert (path, sent.status_code) == (path, 403)
        assert "Viewers may" in sent.text
    for name in ACTS:
        assert viewer.get(f"/console/acts/{name}/1").status_code == 403
    assert rows(url, STATE) == before


@pytest.mark.parametrize(
    "forged",
    [
        {"csrf_token": ""},
        {"csrf_token": "0" * 64},
        {"csrf_token": "of another session"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_forged_form_does_nothing(folder: Path, url: str, redis_url: str, forged: dict[str, str]) -> None:
    operator, other = (browser_of(folder, url, redis_url, OPERATOR) for _ in range(2))
    form = {"csrf_token": forged.get("csrf_token", token(operator.get("/console/")))}
    if form["csrf_token"] == "of another session":
        form["csrf_token"] = token(other.get("/console/"))
    headers = {name: value for name, value in forged.items() if name != "csrf_token"}
    before = rows(url, STATE)
    for method, path in paths_that_write(operator):
        sent = operator.open(path, method=method, data=form, headers=headers)
        assert (path, sent.status_code) == (path, 403)
    assert rows(url, STATE) == before


@pytest.mark.parametrize("sent_from", ["192.0.2.9", "127.0.0.1"])
def test_user_header_of_no_trusted_proxy_does_nothing(folder: Path, url: str, redis_url: str, sent_from: str) -> None:
    proxied = {"CONSOLE_PROXY_USER_HEADER": "X-User", "TRUSTED_PROXIES": "10.0.0.0/8"}
    operator = browser_of(folder, url, redis_url, OPERATOR, **proxied)
    csrf = token(operator.get("/console/"))
    stranger = operator.application.test_client()
    headers = {"X-User": "ann", "X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    before = rows(url, STATE)
    for method, path in paths_that_write(operator):
        sent = stranger.open(
            path, method=method, data={"csrf_token": csrf}, headers=headers, environ_base={"REMOTE_ADDR": sent_from}
        )
        assert (path, sent.status_code) == (path, 303)
        assert sent.headers["Location"].startswith("/console/login")
    assert rows(url, STATE) == before


def test_user_of_a_proxy_needs_the_token_of_the_session(folder: Path, url: str, redis_url: str) -> None:
    proxied = {"CONSOLE_PROXY_USER_HEADER": "X-User", "TRUSTED_PROXIES": "10.0.0.0/8"}
    browser = browser_of(folder, url, redis_url, **proxied)
    given: dict[str, Any] = {"headers": {"X-User": "ann"}, "environ_base": {"REMOTE_ADDR": "10.0.0.1"}}
    assert browser.get("/console/", **given).status_code == 200
    before = rows(url, STATE)
    for method, path in paths_that_write(browser):
        assert browser.open(path, method=method, **given).status_code == 403
    assert rows(url, STATE) == before


def test_viewers_see_no_form_that_writes(folder: Path, url: str, redis_url: str) -> None:
    viewer = browser_of(folder, url, redis_url, VIEWER)
    for path in PAGES.values():
        page = viewer.get(path)
        assert page.status_code == 200
        # The one is the logout.
        assert (path, page.text.count('method="post"')) == (path, 1)
        assert (path, "/console/acts/" in page.text) == (path, False)
