"""Subscriptions in the console: operators add and change them, with one row in the audit log each; viewers do not."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.storage import database
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands
from tests.support.acting import TESTER
from tests.support.console import OPERATOR, VIEWER, console, log_in, token
from tests.support.subscriber import Subscriber
from tests.support.system import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient

ACTS = ("test", "pause", "resume", "replay", "rotate", "remove")
AUDITED = """
    select actor, actor_kind, address, action, target, outcome from headshotpro.audit_log where actor_kind = 'console'
    order by id
"""
PAGE = "/console/subscriptions/orders"


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    with Subscriber() as started:
        yield started


@pytest.fixture
def operator(tmp_path: Path, database_url: str, redis_url: str) -> FlaskClient:
    browser = console(tmp_path, database_url, redis_url)
    log_in(browser, OPERATOR)
    return browser


@pytest.fixture
def viewer(tmp_path: Path, database_url: str, redis_url: str) -> FlaskClient:
    browser = console(tmp_path, database_url, redis_url)
    log_in(browser, VIEWER)
    return browser


def add(url: str, subscriber: Subscriber) -> str:
    engine = database.connect(url)
    secret = SubscriptionCommands(engine, TESTER).add(SubscriptionBody("orders", subscriber.url))
    engine.dispose()
    subscriber.secrets = [secret]
    return secret


def path_of(act: str, name: str = "orders") -> str:
    return f"/console/acts/{act}-subscription/{name}"


ADD = path_of("add", "new")


def send(browser: FlaskClient, path: str, **form: str) -> Any:
    page = browser.get(path)
    assert page.status_code == 200
    return browser.post(path, data={"csrf_token": token(page), **form}, follow_redirects=True)


def row(url: str) -> dict[str, Any]:
    (found,) = rows(url, "select * from headshotpro.subscriptions where name = 'orders'")
    return found


def secret_on(page: str) -> str:
    found = re.search(r"whsec_[A-Za-z0-9+/=]+", unescape(page))
    assert found
    return found[0]


def test_operator_adds_a_subscription_and_sees_its_secret_once(
    operator: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    form = {"name": "orders", "url": subscriber.url, "statuses": "active, failed", "teams": "t1", "batch": "25"}
    added = send(operator, ADD, **form)
    secret = secret_on(added.text)
    kept = row(database_url)
    assert (kept["secret"], kept["statuses"], kept["teams"], kept["batch"]) == (
        secret,
        ["active", "failed"],
        ["t1"],
        25,
    )
    assert kept["with_personal_data"] is False
    assert added.headers["Cache-Control"] == "no-store"
    for path in (PAGE, "/console/subscriptions", "/console/audit"):
        assert secret not in operator.get(path).text
    assert "orders" in operator.get("/console/subscriptions").text
    expected = {"actor": "operator", "actor_kind": "console", "address": "127.0.0.1", "outcome": "done"}
    assert rows(database_url, AUDITED) == [{**expected, "action": "subscription.add", "target": "orders"}]


@pytest.mark.parametrize(
    "case",
    [{"url": "http://169.254.169.254/"}, {"name": "a b"}, {"batch": "101"}, {"batch": "many"}, {"name": "taken"}],
)
def test_form_that_cannot_be_used_says_why_and_keeps_its_values(
    operator: FlaskClient, database_url: str, case: dict[str, str]
) -> None:
    send(operator, ADD, name="taken", url="http://127.0.0.1:9/")
    form = {"name": "orders", "url": "http://127.0.0.1:9/", "teams": "kept", **case}
    refused = send(operator, ADD, **form)
    assert refused.status_code == 409
    assert 'role="alert"' in refused.text
    assert 'value="kept"' in refused.text
    assert len(rows(database_url, AUDITED)) == 1


def test_operator_does_each_act_with_one_audit_row(
    operator: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    secret = add(database_url, subscriber)
    tested = send(operator, path_of("test"))
    assert "204" in tested.text
    assert [request.document["type"] for request in subscriber.requests] == ["subscription.test"]
    paused = send(operator, path_of("pause"))
    assert paused.request.path.startswith("/console/audit/")
    assert PAGE in paused.text
    assert row(database_url)["state"] == "paused"
    send(operator, path_of("resume"))
    assert row(database_url)["state"] == "active"
    send(operator, path_of("replay"), since="2020-01-01T00:00")
    assert row(database_url)["replays"] == 1
    rotated = send(operator, path_of("rotate"))
    kept = row(database_url)
    assert (kept["secret"], kept["previous_secret"]) == (secret_on(rotated.text), secret)
    assert f"/console/audit/{len(ACTS)}" in rotated.text
    assert "It was removed" in send(operator, path_of("remove")).text
    assert rows(database_url, "select from headshotpro.subscriptions") == []
    written = rows(database_url, AUDITED)
    assert [act["action"] for act in written] == [f"subscription.{act}" for act in ACTS]
    assert {(act["target"], act["outcome"], act["actor"]) for act in written} == {("orders", "done", "operator")}


def test_page_offers_resume_where_a_retry_waits(
    operator: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    add(database_url, subscriber)
    assert path_of("resume") not in operator.get(PAGE).text
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into headshotpro.subscription_deliveries (subscription_id, change_id, model_id, attempts) "
            "select id, 7, 'm1', 2 from headshotpro.subscriptions"
        )
    assert path_of("resume") in operator.get(PAGE).text


def test_viewer_and_forged_forms_change_nothing(
    operator: FlaskClient, viewer: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    add(database_url, subscriber)
    before, csrf = row(database_url), token(viewer.get("/console/"))
    own = token(operator.get("/console/"))
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for path in (ADD, *map(path_of, ACTS)):
        assert viewer.get(path).status_code == 403
        assert viewer.post(path, data={"csrf_token": csrf, "name": "x", "url": subscriber.url}).status_code == 403
        assert operator.post(path).status_code == 403
        assert operator.post(path, data={"csrf_token": csrf}).status_code == 403
        assert operator.post(path, data={"csrf_token": own}, headers=foreign).status_code == 403
    assert row(database_url) == before
    assert (rows(database_url, AUDITED), subscriber.requests) == ([], [])
    for path in (PAGE, "/console/subscriptions"):
        assert "-subscription/" in operator.get(path).text
        assert "-subscription/" not in viewer.get(path).text


@pytest.mark.parametrize(
    "case",
    [("pause", "orders", {}, 409), ("replay", "orders", {"since": "soon"}, 409), ("pause", "unknown", {}, 404),
     ("unknown", "orders", {}, 404), ("pause", "%00", {}, 404), ("pause", "%C3%A4", {}, 404)],
)  # fmt: skip
def test_act_that_cannot_be_done_changes_nothing_and_says_so(
    operator: FlaskClient, database_url: str, subscriber: Subscriber, case: tuple[str, str, dict[str, str], int]
) -> None:
    act, name, form, status = case
    add(database_url, subscriber)
    rows(database_url, "update headshotpro.subscriptions set state = 'disabled' returning id")
    csrf = token(operator.get("/console/"))
    refused = operator.post(path_of(act, name), data={"csrf_token": csrf, **form})
    assert refused.status_code == status
    assert rows(database_url, AUDITED) == []


def test_failed_test_request_is_shown_with_its_reason(
    operator: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    add(database_url, subscriber)
    subscriber.behave = lambda _number, _request: 302
    assert "redirects are not followed" in send(operator, path_of("test")).text
    (act,) = rows(database_url, AUDITED)
    assert (act["action"], act["outcome"]) == ("subscription.test", "failed")


def test_replay_by_change_id_is_shown_where_acts_are(
    operator: FlaskClient, database_url: str, subscriber: Subscriber
) -> None:
    add(database_url, subscriber)
    for page in (send(operator, path_of("replay"), since="4711"), operator.get("/console/audit")):
        assert page.status_code == 200
        assert "</span> 4711</span>" in page.text
