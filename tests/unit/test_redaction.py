"""Secrets of the settings are replaced in every error and log line, in whatever way a server wrote them."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
import structlog

from service import log, redaction
from service.config import load
from service.errors import MirrorError, PostgresUnavailable
from service.log import format_without_messages
from service.redaction import REDACTED, redact, redact_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIVEN = {
    "DATABASE_URL": "postgresql://mirror:pass%2Fword-pg@h:5432/mirror",
    "REDIS_URL": "redis+sentinel://:password-redis@h1,h2/main/0?sentinel_password=password-sentinel",
    "HEADSHOTPRO_API_KEY": 'hsp_"key" of=ours/~',
    "HEADSHOTPRO_WEBHOOK_SECRET": "5e" * 32 + ",secret-that-was",
    "MIRROR_API_KEYS": "billing=ro:key-of-billing,metrics:key-of-prometheus",
    "CONSOLE_PASSWORD": "password-cönsole",
    "CONSOLE_VIEWER_PASSWORD": "password-viewer",
    "ALERT_URLS": "mailtos://me:password-mail@example.com?to=a@b.example, json://u:password-hook@h/x",
}
SECRETS = (
    "pass%2Fword-pg", "pass/word-pg", "password-redis", "password-sentinel", 'hsp_"key" of=ours/~', "5e" * 32,
    "secret-that-was", "key-of-billing", "key-of-prometheus", "password-cönsole", "password-viewer", "password-mail",
    "password-hook",
)  # fmt: skip


@pytest.fixture(autouse=True)
def settings(tmp_path: Path) -> Iterator[None]:
    load(environ=GIVEN, dotenv=tmp_path / ".env")
    yield
    redaction.register_secrets(())


@pytest.mark.parametrize("secret", SECRETS)
def test_secret_is_redacted_in_every_spelling(secret: str) -> None:
    spellings = [
        secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False),
        b64encode(secret.encode()).decode(), f"Bearer {secret}", f"<b>{secret}</b>",
    ]  # fmt: skip
    for spelling in spellings:
        assert REDACTED in redact(f"the server said {spelling}.")
        assert REDACTED in str(PostgresUnavailable(f"cannot: {spelling}"))
        assert secret not in str(MirrorError(spelling))
    assert redact_bytes(f"\u00fc {secret}".encode()) == f"\u00fc {REDACTED}".encode()


def test_words_without_a_secret_stay_as_they_are() -> None:
    for words in ("", "Postgres cannot be reached: connection to mirror@h:5432", "billing", "example.com"):
        assert redact(words) == words
    body = b"\xff\xfe not text"
    assert redact_bytes(body) is body


def test_short_secret_does_not_make_messages_unreadable(tmp_path: Path) -> None:
    load(environ={"DATABASE_URL": "postgresql://mirror:mirror@h/mirror"}, dotenv=tmp_path / ".env")
    assert redact("headshot-mirror: the mirror") == "headshot-mirror: the mirror"


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_line_holds_no_secret_and_no_words_of_a_library(
    form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure(load(environ={**GIVEN, "LOG_FORMAT": form}, dotenv=tmp_path / ".env"))
    person = "ada@leak.example"

    # Not in the lines that raise: a traceback shows those, and they are our code.
    theirs, ours = f"Key (email)=({person}) exists", "Postgres refuses key-of-billing"

    def fail() -> None:
        raise ValueError(theirs)

    try:
        try:
            fail()
        except ValueError as error:
            raise PostgresUnavailable(ours) from error
    except PostgresUnavailable:
        logging.getLogger("somebody.elses").exception("it said key-of-billing")
        structlog.get_logger().error("our_event", words=["key-of-billing", {"a": "5e" * 32}], exc_info=True)
    said = capfd.readouterr().err
    assert said.count("it said") == said.count("our_event") == 1
    # The place of the error is kept, and our own error's message.
    assert said.count("Postgres refuses") == said.count("in fail") == 2
    for word in (person, "Key (email)", "key-of-billing", "5e5e5e"):
        assert word not in said


def test_traceback_ends_where_errors_lead_to_each_other() -> None:
    first, second = ValueError("one"), KeyError("two")
    first.__context__, second.__context__ = second, first
    assert format_without_messages(first) == "KeyError\nValueError"
