"""`headshot-mirror webhook test`: where a delivery can stop; `test_processes.py` has its whole way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.system import WEBHOOK_PATH

if TYPE_CHECKING:
    from tests.support.cli import Cli


def test_url_that_nobody_serves_is_named(cli: Cli) -> None:
    done = cli.run("webhook", "test", "--url", f"http://127.0.0.1:9{WEBHOOK_PATH}")
    assert (done.status, done.out) == (1, "")
    assert f"http://127.0.0.1:9{WEBHOOK_PATH} cannot be reached from here: cannot connect: " in done.err


def test_unknown_or_malformed_url_is_wrong_usage(cli: Cli) -> None:
    assert "PUBLIC_URL is missing" in cli.run("webhook", "test").err
    done = cli.run("webhook", "test", "--url", "mirror.example.com")
    assert (done.status, "--url is malformed" in done.err) == (2, True)
