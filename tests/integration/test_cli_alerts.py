"""`headshot-mirror alerts`: what is open, who took note, and whether the receivers take a message."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.support.alerting import NotificationReceiver, alerting_harness, smtp_server
from tests.support.system import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpserver import HTTPServer

    from tests.support.alerting import AlertingHarness
    from tests.support.cli import Cli


@pytest.fixture
def alerts(database_url: str) -> Iterator[AlertingHarness]:
    """Three alerts, the second of which is resolved."""
    with alerting_harness(database_url) as here:
        here.sql(
            "insert into headshotpro.alerts (kind, model_id, opened_at, resolved_at, detail) values "
            "('model_failed', 'a', now() - interval '3 hours', null, '{\"failures\": 3}'),"
            "('model_stuck', 'b', now() - interval '2 hours', now(), '{}'),"
            "('pull_stale', null, now() - interval '1 hour', null, '{}')"
        )
        yield here


def test_list_shows_open_ones_first(cli: Cli, alerts: AlertingHarness) -> None:
    rows = cli.run("alerts", "list", "--json").document
    assert [(row["kind"], row["model_id"]) for row in rows] == [
        ("pull_stale", None),
        ("model_failed", "a"),
        ("model_stuck", "b"),
    ]
    assert set(rows[0]) == {"id", "kind", "model_id", "opened_at", "resolved_at", "acknowledged_at", "detail"}
    assert rows[1]["detail"] == {"failures": 3}
    assert rows[1]["opened_at"].endswith("Z")
    assert len(cli.run("alerts", "list", "--open", "--json").document) == 2
    assert len(cli.run("alerts", "list", "--kind", "model_stuck", "--json").document) == 1
    assert len(cli.run("alerts", "list", "--limit", "1", "--json").document) == 1
    table = cli.run("alerts", "list").out
    assert "model_failed" in table
    assert cli.run("status", "--json").document["open_alerts"] == 2


def test_character_that_the_encoding_lacks_is_shown_as_code(cli: Cli, alerts: AlertingHarness) -> None:
    alerts.sql("update headshotpro.alerts set model_id = 'Zo\u00eb' where model_id = 'a'")
    done = cli.finish(cli.start("alerts", "list", PYTHONIOENCODING="ascii"))
    assert (done.status, done.err) == (0, "")
    assert r"Zo\xeb" in done.out


def test_ack_takes_ids_or_all(cli: Cli, alerts: AlertingHarness) -> None:
    first, second, third = (row["id"] for row in alerts.alerts(only_open=False))
    done = cli.run("alerts", "ack", str(first))
    assert (done.status, done.out) == (0, "1 open alert acknowledged.\n")
    (before,) = [row["acknowledged_at"] for row in alerts.alerts() if row["id"] == first]
    done = cli.run("alerts", "ack", str(first), str(second), "4711", str(2**63))
    assert done.status == 1
    assert f"not open: {second}, 4711, {2**63}" in done.err
    done = cli.run("alerts", "ack", "--all")
    assert (done.status, done.out) == (0, "2 open alerts acknowledged.\n")
    noted = {row["id"]: row["acknowledged_at"] for row in alerts.alerts(only_open=False)}
    assert noted[first] == before
    assert noted[second] is None
    assert noted[third] is not None
    # It is open all the same.
    assert cli.run("status", "--json").document["open_alerts"] == 2


@pytest.mark.parametrize("arguments", [(), ("--all", "1"), ("x",)])
def test_ack_wants_to_know_which(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli.run("alerts", "ack", *arguments).status == 2


def test_test_sends_to_each_receiver_and_says_what_came_back(cli: Cli, httpserver: HTTPServer) -> None:
    well, broken = NotificationReceiver(httpserver, "/token-one"), NotificationReceiver(httpserver, "/token-two")
    broken.status = 500
    with smtp_server() as (mail_url, mailbox):
        urls = f"{well.url},{mail_url},{broken.url}"
        # In a process of its own: in this one it would collect the logs of the servers too.
        done = cli.finish(cli.start("alerts", "test", "--json", ALERT_URLS=urls))
        assert done.status == 1
        assert [row["taken"] for row in done.document] == [True, True, False]
        assert "500" in done.document[2]["answer"]
        assert done.document[1]["receiver"].startswith("mailto://127.0.0.1:")
        assert well.titles == ["a test: 1 model failed; a pull waits for a person"]
        assert "a pull waits for a person: pull 18" in well.got[0]["message"]
        assert "Subject: headshot-mirror: a test" in mailbox.mails[0]
    done = cli.run("alerts", "test", ALERT_URLS=well.url)
    assert done.status == 0
    assert done.out.splitlines()[-1].split()[-2:] == ["yes", "sent"]


@pytest.mark.parametrize("without", ["postgresql://me@127.0.0.1:9/mirror", None])
def test_test_sends_without_postgres_and_says_it_is_unrecorded(
    cli: Cli, httpserver: HTTPServer, without: str | None
) -> None:
    well, broken = NotificationReceiver(httpserver, "/token-one"), NotificationReceiver(httpserver, "/token-two")
    broken.status = 500
    for urls, status in ((well.url, 0), (f"{well.url},{broken.url}", 1)):
        done = cli.run("alerts", "test", "--json", ALERT_URLS=urls, DATABASE_URL=without)
        assert (done.status, done.document[0]["taken"]) == (status, True)
        (line,) = [line for line in done.err.splitlines() if "audit log" in line]
        assert ("DATABASE_URL is missing" if without is None else "Postgres cannot be reached") in line
    assert len(well.titles) == 2


def test_test_leaves_one_row_in_the_audit_log(cli: Cli, database_url: str, httpserver: HTTPServer) -> None:
    done = cli.run("alerts", "test", ALERT_URLS=NotificationReceiver(httpserver, "/x").url)
    assert (done.status, done.err) == (0, "")
    assert [(row["action"], row["outcome"]) for row in rows(database_url, "select * from headshotpro.audit_log")] == [
        ("alerts.test", "done")
    ]


def test_test_prints_no_secret_whatever_comes_back(cli: Cli, httpserver: HTTPServer) -> None:
    hook = NotificationReceiver(httpserver, "/T0PSECRET")
    hook.status = 404
    url = hook.url.replace("127.0.0.1", "somebody:hunter22@127.0.0.1")
    nowhere = "json://somebody:hunter22@127.0.0.1:9/x?+Authorization=B3ARER99"
    slack = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?cto=0.1&rto=0.1&verify=no"
    done = cli.finish(cli.start("alerts", "test", ALERT_URLS=f"{url},{nowhere}", LOG_LEVEL="debug"))
    assert done.status == 1
    for secret in ("hunter22", "B3ARER99", "T0PSECRET", "somebody"):
        assert secret not in done.out + done.err
    from service.alerts.receivers import Receiver

    assert "TIiajkdnlazkcOXrIdevi7FQ" not in Receiver(slack).name + repr(Receiver(slack))


def test_test_needs_receivers(cli: Cli) -> None:
    done = cli.run("alerts", "test", ALERT_URLS=None)
    assert done.status == 2
    assert "ALERT_URLS is missing" in done.err


def test_a_malformed_url_ends_a_process_in_one_line(cli: Cli) -> None:
    urls = ("hunter2", "json://127.0.0.1/, hunter2", "hunter2://127.0.0.1/x", "hunter2,json://127.0.0.1/")
    in_this_process = (("alerts", "test"), ("worker",), ("clock",), ("up",))
    # Web has a process of its own, which takes a second: one URL is enough, because all of them check it alike.
    for given, arguments in (*product(urls, in_this_process), (urls[1], ("web",))):
        done = cli.run(*arguments, ALERT_URLS=given)
        assert done.status == 2, (given, done)
        assert done.err.count("\n") == 1
        assert "ALERT_URLS is malformed" in done.err
        assert "hunter2" not in done.err
