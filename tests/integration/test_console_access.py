"""Access to the console: who gets in, for how long, and what a page of another site can do."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug.exceptions import ServiceUnavailable

from service.errors import PostgresUnavailable, StatementTimeout
from service.web.console import sessions
from service.web.console.limits import RequestSlots
from service.web.console.login_limit import FREE_FAILURES, MAX_ADDRESSES, LoginLimit
from tests.support.console import COOKIE, OPERATOR, VIEWER, console, log_in, token
from tests.support.system import rows
from tests.support.webhook_endpoint import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

PAGES = ("/console/", "/console/alerts", "/console/settings", "/console/nowhere")


@pytest.fixture
def browser(folder: Path, database_url: str, redis_url: str) -> FlaskClient:
    return console(folder, database_url, redis_url)


def test_console_without_a_password_is_not_there(folder: Path) -> None:
    off = client_of(folder)
    for path in ("/console", "/console/", "/console/login", "/console/alerts"):
        assert off.get(path).status_code == 404
    assert off.post("/console/login", data={"password": ""}).status_code == 404
    assert "CONSOLE_PASSWORD" in off.get("/").text


def test_first_page_leads_to_the_console(browser: FlaskClient) -> None:
    for path in ("/", "/console"):
        response = browser.get(path)
        assert (response.status_code, response.headers["Location"]) == (302, "/console/")


@pytest.mark.parametrize("path", PAGES)
def test_page_without_a_session_leads_to_the_login(browser: FlaskClient, path: str) -> None:
    response = browser.get(path)
    assert response.status_code == 303
    assert response.headers["Location"].startswith("/console/login")


@pytest.mark.parametrize(("password", "role"), [(OPERATOR, "operator"), (VIEWER, "viewer")])
def test_password_opens_a_session_of_its_role(browser: FlaskClient, password: str, role: str) -> None:
    response = log_in(browser, password, next="/console/alerts?kind=pull_stale")
    assert (response.status_code, response.headers["Location"]) == (303, "/console/alerts?kind=pull_stale")
    page = browser.get("/console/")
    assert page.status_code == 200
    assert f'title="{role}"' in page.text


def test_cookie_is_kept_from_scripts_and_other_sites(folder: Path, database_url: str, redis_url: str) -> None:
    plain = log_in(console(folder, database_url, redis_url)).headers["Set-Cookie"]
    assert "HttpOnly" in plain
    assert "SameSite=Lax" in plain
    assert "Path=/console" in plain
    assert "Max-Age=43200" in plain
    assert "Secure" not in plain
    public = console(folder, database_url, redis_url, PUBLIC_URL="https://mirror.example")
    assert "Secure" in log_in(public).headers["Set-Cookie"]


def test_session_ends_after_twelve_hours(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(browser)
    assert browser.get("/console/alerts").status_code == 200
    # One of a clock that is ahead, which was set back since, would last longer than twelve hours.
    for seconds, status in ((12 * 3600 - 60, 200), (12 * 3600 + 2, 303), (-30, 200), (-120, 303)):
        monkeypatch.setattr(sessions, "time", lambda later=seconds: time.time() + later)
        assert browser.get("/console/alerts").status_code == status


def test_changed_password_ends_its_sessions_alone(folder: Path, database_url: str, redis_url: str) -> None:
    before = console(folder, database_url, redis_url)
    after = console(folder, database_url, redis_url, CONSOLE_PASSWORD="another password of operators")
    for password, status in ((OPERATOR, 303), (VIEWER, 200)):
        log_in(before, password)
        cookie = before.get_cookie(COOKIE, path="/console")
        assert cookie
        after.set_cookie(COOKIE, cookie.value, path="/console")
        assert after.get("/console/alerts").status_code == status


def test_web_processes_share_one_secret(folder: Path, database_url: str, redis_url: str) -> None:
    one, other = (console(folder, database_url, redis_url) for _ in range(2))
    log_in(one)
    cookie = one.get_cookie(COOKIE, path="/console")
    assert cookie
    other.set_cookie(COOKIE, cookie.value, path="/console")
    assert other.get("/console/alerts").status_code == 200
    assert len(rows(database_url, "select secret from headshotpro.console_secret")) == 1


def test_login_takes_over_no_session_that_was_planted(browser: FlaskClient) -> None:
    log_in(browser)
    planted = browser.get_cookie(COOKIE, path="/console")
    assert planted
    log_in(browser)
    fresh = browser.get_cookie(COOKIE, path="/console")
    assert fresh
    assert fresh.value != planted.value
    # The last character ends with two bits that say nothing: B would be read as A.
    for made_up in ("x", "W10.x.y", planted.value[:-1] + ("A" if planted.value[-1] != "A" else "E")):
        browser.set_cookie(COOKIE, made_up, path="/console")
        assert browser.get("/console/alerts").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "/console/\\evil", "/console//evil.example",
        "javascript:alert(1)", "/console/../webhooks", "/consolevil", "/console/\nx", "/api/docs", "console/", "",
    ],
)  # fmt: skip
def test_login_leads_to_no_other_place(browser: FlaskClient, target: str) -> None:
    assert log_in(browser, next=target).headers["Location"] == "/console/"
    assert browser.get("/console/login", query_string={"next": target}).headers["Location"] == "/console/"


def test_logout_needs_its_form_and_ends_the_session(browser: FlaskClient) -> None:
    log_in(browser, VIEWER)
    right = token(browser.get("/console/alerts"))
    for given in ({}, {"csrf_token": "x"}, {"csrf_token": right[:-1]}):
        assert browser.post("/console/logout", data=given).status_code == 403
    for origin in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert browser.post("/console/logout", data={"csrf_token": right}, headers=origin).status_code == 403
    assert browser.post("/console/logout", data={"csrf_token": right}).status_code == 303
    assert browser.get("/console/alerts").status_code == 303


def test_form_of_another_session_is_refused(browser: FlaskClient) -> None:
    log_in(browser)
    old = token(browser.get("/console/alerts"))
    log_in(browser)
    assert browser.post("/console/logout", data={"csrf_token": old}).status_code == 403


def test_login_sent_from_another_site_is_refused(browser: FlaskClient) -> None:
    response = browser.post("/console/login", data={"password": OPERATOR}, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403
    assert "Set-Cookie" not in response.headers


def test_guessing_is_slowed_down_even_with_the_right_password(
    browser: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(FREE_FAILURES):
        assert log_in(browser, f"guess {number}").status_code == 401
    refused = log_in(browser)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) == 1
    assert "try again in 1 s." in refused.text
    log = capsys.readouterr().err
    assert log.count("console.login_failed") == FREE_FAILURES
    assert "guess" not in log
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert browser.post("/console/login", data={"password": OPERATOR}, environ_base=elsewhere).status_code == 303


def test_viewer_between_guesses_does_not_end_the_wait(browser: FlaskClient) -> None:
    for number in range(FREE_FAILURES):
        assert log_in(browser, f"guess {number}").status_code == 401
        if number < FREE_FAILURES - 1:
            assert log_in(browser, VIEWER).status_code == 303
    assert log_in(browser, OPERATOR).status_code == 429


def test_origin_that_is_no_url_is_refused(browser: FlaskClient) -> None:
    page = browser.post("/console/login", data={"password": OPERATOR}, headers={"Origin": "http://[x"})
    assert page.status_code == 403


@pytest.mark.parametrize("name", ["nope/../console.css", "vendor/./../console.css", "nothing.css", "../console.py"])
def test_only_files_of_the_console_are_served(browser: FlaskClient, name: str) -> None:
    assert browser.get(f"/console/static/x/{name}").status_code == 404


def test_each_wrong_password_doubles_the_wait_up_to_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("service.web.console.login_limit.monotonic", lambda: now)
    limit = LoginLimit()
    waits = []
    for _ in range(16):
        limit.note_failure("192.0.2.1")
        waits.append(limit.seconds_to_wait("192.0.2.1"))
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    now = 301.0
    assert limit.seconds_to_wait("192.0.2.1") == 0
    limit.note_success("192.0.2.1")
    assert limit.note_failure("192.0.2.1") == 1


def test_addresses_that_guess_take_bounded_memory() -> None:
    limit = LoginLimit()
    for number in range(MAX_ADDRESSES + 50):
        limit.note_failure(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._failures) == MAX_ADDRESSES
    # A customer's network counts as one address.
    for number in range(FREE_FAILURES):
        limit.note_failure(f"2001:db8::{number}")
    assert limit.seconds_to_wait("2001:db8::ffff") > 0


PROXY = {"CONSOLE_PROXY_USER_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "192.0.2.0/24"}


def test_user_of_a_trusted_proxy_needs_no_password(folder: Path, database_url: str, redis_url: str) -> None:
    browser = console(folder, database_url, redis_url, **PROXY)
    proxy, ann = {"REMOTE_ADDR": "192.0.2.8"}, {"X-Forwarded-User": "ann@example.com"}
    page = browser.get("/console/alerts", headers=ann, environ_base=proxy)
    assert page.status_code == 200
    assert "ann@example.com" in page.text
    assert COOKIE in page.headers["Set-Cookie"]
    # The cookie alone is worth nothing, nor is it to another user.
    assert browser.get("/console/alerts", environ_base=proxy).status_code == 303
    assert browser.get("/console/alerts", headers=ann).status_code == 303
    assert "ben@" in browser.get("/console/alerts", headers={"X-Forwarded-User": "ben@x"}, environ_base=proxy).text


@pytest.mark.parametrize(
    ("address", "user"),
    [("198.51.100.1", "ann"), ("192.0.2.8", ""), ("192.0.2.8", "ann,ben"), ("192.0.2.8", "a" * 201)],
)
def test_header_that_no_trusted_proxy_set_is_ignored(
    folder: Path, database_url: str, redis_url: str, address: str, user: str
) -> None:
    browser = console(folder, database_url, redis_url, **PROXY)
    response = browser.get("/console/alerts", headers={"X-Forwarded-User": user}, environ_base={"REMOTE_ADDR": address})
    assert response.status_code == 303


def test_log_of_a_failed_login_has_the_clients_address(
    folder: Path, database_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = console(folder, database_url, redis_url, **PROXY)
    for remote, forwarded, logged in (
        ("192.0.2.8", "203.0.113.5", "203.0.113.5"),
        ("192.0.2.8", "evil, 203.0.113.6, 192.0.2.9", "203.0.113.6"),
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
    ):
        headers, base = {"X-Forwarded-For": forwarded}, {"REMOTE_ADDR": remote}
        browser.post("/console/login", data={"password": "x"}, headers=headers, environ_base=base)
        assert f'"address": "{logged}"' in capsys.readouterr().err


def test_pages_run_only_their_own_scripts_and_are_not_cached(browser: FlaskClient) -> None:
    log_in(browser)
    nonces = set()
    for path in (*PAGES, "/console/login"):
        response = browser.get(path) if path != "/console/login" else log_in(browser, "wrong")
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; ")
        assert "unsafe" not in policy
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
        nonces.add(nonce)
        assert set(re.findall(r'nonce="([^"]+)"', response.text)) == {nonce}
        assert response.text.count("<script") == response.text.count(f'nonce="{nonce}" defer')
        # Nothing is loaded from elsewhere, and no style or handler is written into the page.
        assert not re.search(r"""(src|href)="(https?:|//)|<style|style=|\son\w+=""", response.text)
    assert len(nonces) == len(PAGES) + 1


def test_console_without_postgres_says_so(folder: Path, redis_url: str) -> None:
    browser = client_of(folder, REDIS_URL=redis_url, CONSOLE_PASSWORD=OPERATOR)
    response = log_in(browser)
    assert response.status_code == 503
    assert "Postgres" in response.text
    # A browser would send the password again.
    assert ("Refresh" in response.headers, "by itself" in response.text) == (False, False)
    assert browser.get("/console/login").status_code == 200


def test_page_without_postgres_reloads_until_it_is_back(browser: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(browser)
    assert "Refresh" not in browser.get("/console/pulls").headers

    def fail(*_given: Any) -> None:
        raise PostgresUnavailable("Postgres cannot be reached")

    with monkeypatch.context() as without:
        without.setattr("service.storage.pulls.page", fail)
        response = browser.get("/console/pulls?kind=full")
    assert (response.status_code, response.headers["Refresh"]) == (503, "5")
    assert "tries again every 5 seconds by itself" in response.text
    assert "Deliveries are still accepted and stored" in response.text
    assert browser.get("/console/pulls?kind=full").status_code == 200


def test_page_refused_among_too_many_reloads_and_a_form_does_not(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(browser)
    form = {"csrf_token": token(browser.get("/console/settings"))}

    def refuse(*_given: Any) -> None:
        raise ServiceUnavailable("Too many pages are being made: try again.", retry_after=5)

    monkeypatch.setattr(RequestSlots, "take", refuse)
    refused = [browser.get("/console/pulls"), browser.post("/console/acts/pull/full", data=form)]
    assert [response.status_code for response in refused] == [503, 503]
    assert ["Refresh" in response.headers for response in refused] == [True, False]
    assert ["by itself" in response.text for response in refused] == [True, False]


def test_page_whose_statement_takes_too_long_is_not_loaded_again(
    browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_given: Any) -> None:
        raise StatementTimeout("a statement took longer than 5 s")

    log_in(browser)
    monkeypatch.setattr("service.storage.pulls.page", time_out)
    response = browser.get("/console/pulls")
    assert (response.status_code, "Refresh" in response.headers) == (503, False)


@pytest.mark.parametrize("path", ["/console/models/a%3Fb%23c%25d", "/console/events/evt%3F1?page=a%26b"])
def test_login_leads_to_the_page_of_an_id_with_any_character(browser: FlaskClient, path: str) -> None:
    asked = browser.get(path).headers["Location"]
    target = parse_qs(urlsplit(asked).query)["next"][0]
    assert log_in(browser, next=target).headers["Location"] == path
