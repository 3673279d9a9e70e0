"""`headshot-mirror webhook test`: a delivery on its whole way, and where it can stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.cli import Cli
from tests.support.system import SECRET, WEBHOOK_PATH, System, rows

if TYPE_CHECKING:
    from pathlib import Path


def test_delivery_is_followed_into_the_table(folder: Path, database_url: str, redis_url: str) -> None:
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with System(folder, **servers) as system:
        for role in ("web", "worker"):
            system.start(role)
        system.wait_for_web()
        cli = Cli(folder, **servers, HEADSHOTPRO_WEBHOOK_SECRET=SECRET, PUBLIC_URL=f"{system.url}/")
        done = cli.run("webhook", "test", "--json")
        assert done.status == 0, done
        assert done.document["url"] == f"{system.url}{WEBHOOK_PATH}"
        assert (done.document["response"], done.document["event_status"]) == (202, "ignored")
        (row,) = rows(database_url, "select id, event, status from headshotpro.webhook_events")
        assert row == {"id": done.document["event_id"], "event": "webhook.test", "status": "ignored"}
        assert rows(database_url, "select * from headshotpro.models") == []

        lines = cli.run("webhook", "test").out.splitlines()
        assert lines[1].endswith("; its status is `ignored`, as it should be: it is about no model.")
        assert lines[2:] == ["This does not show whether HeadshotPro signs with the same secret."]

        elsewhere = cli.run("webhook", "test", "--url", f"{system.url}/hook")
        assert elsewhere.status == 1
        assert elsewhere.err.endswith(
            f"{system.url}/hook{WEBHOOK_PATH} did not accept the delivery: web serves no such path: a webhook URL has "
            "to end in /webhooks/headshotpro\n"
        )

        wrong = cli.run("webhook", "test", HEADSHOTPRO_WEBHOOK_SECRET="ab" * 32)
        assert (wrong.status, "responded 401" in wrong.out) == (1, True)
        assert "web accepts another secret" in wrong.err


def test_url_that_nobody_serves_is_named(cli: Cli) -> None:
    done = cli.run("webhook", "test", "--url", f"http://127.0.0.1:9{WEBHOOK_PATH}")
    assert (done.status, done.out) == (1, "")
    assert f"http://127.0.0.1:9{WEBHOOK_PATH} cannot be reached from here: cannot connect: " in done.err


def test_unknown_or_malformed_url_is_wrong_usage(cli: Cli) -> None:
    assert "PUBLIC_URL is missing" in cli.run("webhook", "test").err
    done = cli.run("webhook", "test", "--url", "mirror.example.com")
    assert (done.status, "--url is malformed" in done.err) == (2, True)
