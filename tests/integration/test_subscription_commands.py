"""Subscriptions by the command line and by the API: the same acts, the same rows of the audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.subscriber import Subscriber
from tests.support.system import rows
from tests.support.webhook_endpoint import assert_refused, client_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from tests.support.cli import Cli

PREFIX = "/api/v2/subscriptions"
WRITER, READER = {"Authorization": "Bearer key-of-ours"}, {"Authorization": "Bearer key-that-reads"}


@pytest.fixture
def api(folder: Path, database_url: str, redis_url: str) -> FlaskClient:
    keys = "deploys=key-of-ours,ro:key-that-reads"
    return client_of(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, MIRROR_API_KEYS=keys)


def actions(url: str, *, failed: int = 0) -> list[tuple[str, str]]:
    acts = rows(url, "select actor_kind, action, outcome from headshotpro.audit_log order by id")
    others = [(act["action"], act["outcome"]) for act in acts if act["outcome"] != "done"]
    assert others == [("subscription.test", "failed")] * failed
    return [(act["actor_kind"], act["action"].removeprefix("subscription.")) for act in acts]


def test_commands_show_the_secret_once_and_leave_a_row_each(cli: Cli, database_url: str) -> None:
    with Subscriber() as subscriber:
        added = cli.run(
            "subscriptions", "add", "orders", subscriber.url, "--status", "active", "--batch", "10", "--json"
        )
        secret = added.document["secret"]
        assert secret.startswith("whsec_")
        subscriber.secrets = [secret]
        assert cli.run("subscriptions", "test", "orders", "--json").document[0]["taken"] is True
    assert cli.run("subscriptions", "test", "orders").status == 1
    (listed,) = cli.run("subscriptions", "list", "--json").document
    assert (listed["name"], listed["statuses"], listed["batch"], listed["state"]) == (
        "orders",
        ["active"],
        10,
        "active",
    )
    for act in ("pause", "resume", "replay"):
        assert cli.run("subscriptions", act, "orders").status == 0
    rotated = cli.run("subscriptions", "rotate", "orders", "--json").document["secret"]
    assert rotated not in {secret, ""}
    shown = cli.run("subscriptions", "show", "orders")
    assert "orders" in shown.out
    assert "whsec_" not in shown.out + cli.run("subscriptions", "list").out
    assert cli.run("subscriptions", "remove", "orders").status == 1
    assert cli.run("subscriptions", "remove", "orders", "--yes").status == 0
    assert actions(database_url, failed=1) == [
        ("command_line", act) for act in ("add", "test", "test", "pause", "resume", "replay", "rotate", "remove")
    ]


@pytest.mark.parametrize("act", ["show", "test", "pause", "resume", "replay", "rotate", "remove --yes"])
def test_command_about_an_unknown_name_says_so(cli: Cli, act: str) -> None:
    verb, *options = act.split()
    done = cli.run("subscriptions", verb, "nosuch", *options)
    assert done.status == 1
    assert "there is no subscription nosuch; `headshot-mirror subscriptions list` shows them" in done.err


def test_command_refuses_what_cannot_be(cli: Cli) -> None:
    for url in ("http://169.254.169.254/latest", "ftp://example.com/"):
        done = cli.run("subscriptions", "add", "orders", url)
        assert done.status == 1
        assert "the URL cannot be used" in done.err
    assert cli.run("subscriptions", "add", "orders", "http://127.0.0.1/", "--batch", "101").status == 2


def document(answer: TestResponse) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert answer.json["success"] is True
    return answer.json


def test_api_does_what_the_commands_do(api: FlaskClient, database_url: str) -> None:
    with Subscriber() as subscriber:
        body = {"name": "orders", "url": subscriber.url, "teams": ["t1"], "withPersonalData": True}
        added = document(api.post(PREFIX, json=body, headers=WRITER))
        subscriber.secrets = [added["secret"]]
        assert added["subscription"]["teams"] == ["t1"]
        assert document(api.post(f"{PREFIX}/orders/test", headers=WRITER))["taken"] is True
    assert document(api.post(f"{PREFIX}/orders/test", headers=WRITER))["taken"] is False
    assert document(api.post(f"{PREFIX}/orders/pause", headers=WRITER))["subscription"]["state"] == "paused"
    assert document(api.post(f"{PREFIX}/orders/resume", headers=WRITER))["subscription"]["state"] == "active"
    replayed = document(api.post(f"{PREFIX}/orders/replay", json={"since": "2026-01-01T00:00:00Z"}, headers=WRITER))
    assert replayed["subscription"]["cursor"] == 1
    rotated = document(api.post(f"{PREFIX}/orders/rotate", headers=WRITER))["secret"]
    listed = document(api.get(PREFIX, headers=READER))["subscriptions"]
    assert [one["name"] for one in listed] == ["orders"]
    assert rotated not in str(listed)
    assert document(api.get(f"{PREFIX}/orders", headers=READER))["subscription"] == listed[0]
    document(api.delete(f"{PREFIX}/orders", headers=WRITER))
    assert_refused(api.get(f"{PREFIX}/orders", headers=READER), 404, "NOT_FOUND")
    assert actions(database_url, failed=1) == [
        ("api", act) for act in ("add", "test", "test", "pause", "resume", "replay", "rotate", "remove")
    ]


def test_api_shows_what_waits_and_the_newest_requests(api: FlaskClient, database_url: str) -> None:
    document(api.post(PREFIX, json={"name": "orders", "url": "http://127.0.0.1:9/"}, headers=WRITER))
    result = {"status": 503, "error": "the receiver responded 503"}
    request = {"at": "2026-03-04T12:00:01.250+00:00", "change_id": 7, "changes": 1, "attempt": 2, "ms": 3.5, **result}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set recent_requests = %s", (json.dumps([request]),))
        connection.execute(
            "insert into headshotpro.subscription_deliveries "
            "(subscription_id, change_id, model_id, attempts, first_failed_at, status, error) "
            "select id, 7, 'm1', 2, '2026-03-04T12:00:00Z', 503, %s from headshotpro.subscriptions",
            (result["error"],),
        )
    shown = document(api.get(f"{PREFIX}/orders", headers=READER))
    assert shown["deliveries"] == [
        {"changeId": 7, "modelId": "m1", "attempts": 2, "firstFailedAt": "2026-03-04T12:00:00.000Z", "dueAt": None}
        | result
    ]
    assert shown["recentRequests"] == [
        {"at": "2026-03-04T12:00:01.250Z", "changeId": 7, "changes": 1, "attempt": 2, "ms": 3.5} | result
    ]


def test_list_and_show_name_the_failure_of_an_active_one(cli: Cli, database_url: str) -> None:
    cli.run("subscriptions", "add", "orders", "http://127.0.0.1:9/")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update headshotpro.subscriptions set failed_at = now(), failed_reason = 'refused by it'")
        (before,) = cli.run("subscriptions", "list", "--json").document
        connection.execute(
            "insert into headshotpro.subscription_deliveries (subscription_id, change_id, model_id, attempts, "
            "first_failed_at) select id, n, 'm', n, '2026-03-04T12:00:00Z'::timestamptz + n * interval '1 min' "
            "from headshotpro.subscriptions, generate_series(0, 2) as n"
        )
    (listed,) = cli.run("subscriptions", "list", "--json").document
    # The reason of a failure that is over is none of now.
    assert (before["failing_since"], before["failed_reason"], before["waiting"]) == (None, None, 0)
    assert (listed["state"], listed["failing_since"], listed["waiting"]) == ("active", "2026-03-04T12:00:00Z", 3)
    header, line = cli.run("subscriptions", "list").out.splitlines()
    assert header.split()[:4] == ["name", "state", "failing_since", "failed_reason"]
    assert line.split(maxsplit=2)[2].startswith("2026-03-04 12:00:00Z  refused by it")
    shown = cli.run("subscriptions", "show", "orders").out
    assert "\nfailing_since          2026-03-04 12:00:00Z\n" in shown


def test_api_refuses_readers_strangers_and_what_cannot_be(api: FlaskClient, database_url: str) -> None:
    body = {"name": "orders", "url": "http://127.0.0.1:9/"}
    assert_refused(api.post(PREFIX, json=body, headers=READER), 403, "FORBIDDEN")
    assert_refused(api.post(PREFIX, json=body), 401, "UNAUTHORIZED")
    assert_refused(api.get(PREFIX), 401, "UNAUTHORIZED")
    for wrong in ({}, {**body, "name": "a/b"}, {**body, "url": "http://169.254.169.254/"}, {**body, "batch": 0}):
        assert_refused(api.post(PREFIX, json=wrong, headers=WRITER), 400, "INVALID_REQUEST")
    document(api.post(PREFIX, json=body, headers=WRITER))
    assert_refused(api.post(PREFIX, json=body, headers=WRITER), 409, "CONFLICT")
    assert_refused(api.post(f"{PREFIX}/orders/replay", json={"since": "soon"}, headers=WRITER), 400, "INVALID_REQUEST")
    missing = [
        api.post(f"{PREFIX}/nosuch/{act}", headers=WRITER) for act in ("pause", "resume", "replay", "rotate", "test")
    ]
    for response in (*missing, api.delete(f"{PREFIX}/nosuch", headers=WRITER)):
        assert_refused(response, 404, "NOT_FOUND")
        # No advice about the command line.
        assert response.json is not None
        assert response.json["error"] == "Subscription not found"
    assert actions(database_url) == [("api", "add")]
