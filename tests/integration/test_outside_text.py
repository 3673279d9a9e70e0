"""Text from outside stays text: on terminals, in tables, CSV and JSON, in logs, in notifications."""

from __future__ import annotations

import csv
import io
import json
import re
from email import message_from_string
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from werkzeug import Response

# Commands are imported when they are used: one that is imported while a test replaces a function would keep that.
import service.cli.models  # noqa: F401
from service.errors import LocalServerError, MirrorError
from tests.support.alerting import NotificationReceiver, fail, settled, smtp_server
from tests.support.cli import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_httpserver import HTTPServer

MODEL = "507f1f77bcf86cd799439011"
# Markup, a clickable link, a cleared screen, a line of its own, a name written backwards, C1 and DEL, half a character.
HOSTILE = (
    "[/foo] Bob",
    "Ann [hr] [bold red]x[/]",
    "[link=https://evil.example]Ann[/link] :smile:",
    "\x1b[2J\x1b]8;;https://evil.example\x07Ann",
    "Ann\nOK: no problem\r\tx",
    "\u202eevil\u2066\u2028Ann\x9b31m\x7f",
)
OBEYED = set(map(chr, [*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A)])) - {"\n"}


def obeyed(text: str) -> set[str]:
    """The characters in it that a terminal would obey."""
    return OBEYED & set(text)


@pytest.fixture
def run(folder: Path, database_url: str, redis_url: str) -> Cli:
    return Cli(folder, DATABASE_URL=database_url, REDIS_URL=redis_url)


def put(database_url: str, title: str) -> None:
    """A model, an event, a change, an alert and a pull that hold a text from outside in every column that can."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.models (id, title, email, team_name, status, observed_at, updated_at) "
            "values (%s, %s, %s, %s, %s, now(), now())",
            [MODEL, title, title, title, title],
        )
        change = json.dumps({"title": [title, title]})
        connection.execute(
            "insert into headshotpro.model_changes (model_id, to_status, changed, source, event_id, observed_at, "
            "recorded_at) values (%s, %s, %s, 'webhook', %s, now(), now())",
            [MODEL, title, change, title],
        )
        connection.execute(
            "insert into headshotpro.webhook_events "
            "(id, event, model_id, payload, status, error, created_at, received_at, processed_at) "
            "values (%s, %s, %s, %s, 'dead', %s, now(), now(), now())",
            [title, title, title, json.dumps({"title": title}), title],
        )
        connection.execute(
            "insert into headshotpro.alerts (kind, model_id, detail, opened_at) values ('model_failed', %s, %s, now())",
            [title, json.dumps({"status": title})],
        )
        connection.execute(
            "insert into headshotpro.pulls (kind, status, started_at, error) values ('full', 'failed', now(), %s)",
            [title],
        )


COMMANDS = (
    ("models", "list"),
    ("models", "show", MODEL, "--explain"),
    ("events", "list"),
    ("alerts", "list"),
    ("pulls", "list"),
    ("status",),
)


@pytest.mark.parametrize("title", HOSTILE)
def test_commands_print_text_from_outside_as_text(title: str, run: Cli, database_url: str) -> None:
    put(database_url, title)
    spelled = title.encode("unicode_escape").decode() if obeyed(title) or "\n" in title else title
    for command in (*COMMANDS, ("events", "show", title)):
        done = run.run(*command)
        assert "Traceback" not in done.err, (command, done)
        assert spelled in done.out, (command, done)
        assert obeyed(done.out + done.err) == set(), command


@pytest.mark.parametrize("title", HOSTILE)
def test_json_escapes_what_a_terminal_obeys_and_loses_nothing(title: str, run: Cli, database_url: str) -> None:
    put(database_url, title)
    for command in COMMANDS:
        out = run.run(*[word for word in command if word != "--explain"], "--json").out
        assert obeyed(out) == set(), command
        assert title in str_values(json.loads(out)), command


def str_values(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [*document, *(one for value in document.values() for one in str_values(value))]
    if isinstance(document, list):
        return [one for value in document for one in str_values(value)]
    return [document] if isinstance(document, str) else []


def test_error_from_outside_is_one_line_without_control_chars(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise MirrorError("the upstream said: \x1b[2J\nOK")

    monkeypatch.setattr("service.cli.opening.open_engine", refuse)
    assert run.run("models", "list").err == "headshot-mirror: the upstream said: \\x1b[2J\\nOK\n"


def test_a_servers_log_in_an_error_keeps_its_lines(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise LocalServerError("it did not start: FATAL: \x1b[2J\nHINT: wait")

    monkeypatch.setattr("service.cli.opening.open_engine", refuse)
    assert run.run("models", "list").err == "headshot-mirror: it did not start: FATAL: \\x1b[2J\nHINT: wait\n"


@pytest.mark.parametrize("command", ["models show", "models erase", "events show", "events replay", "nosuch"])
def test_argument_that_is_no_text_is_wrong_usage(command: str, run: Cli) -> None:
    done = run.run(*command.split(), "\udcff")
    assert (done.status, done.out) == (2, "")
    assert done.err == "headshot-mirror: an argument is not UTF-8: nothing in the mirror can have such a name\n"


FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", '=HYPERLINK("https://evil.example","Ann")', "\uff1d1", " =1", '"=1"')
# Where the machine's language makes a spreadsheet split at something else than commas, a cell begins in the middle.
SPLIT = {
    "\t=1": "'\t'=1",
    "\r=1": "'\r'=1",
    "\n=1": "'\n'=1",
    "Ann;=1": "Ann;'=1",
    "Ann\n@x": "Ann\n'@x",
    "a, -b": "a,' -b",
}
GUARDED = {title: f"'{title}" for title in FORMULAS} | SPLIT


@pytest.mark.parametrize("title", [*GUARDED, "Ann =1", "Ann-Lee, B; C", ""])
def test_csv_is_exact_and_csv_safe_contains_no_formula(title: str, run: Cli, database_url: str) -> None:
    put(database_url, title)
    (exact,) = csv.DictReader(io.StringIO(run.run("models", "list", "--csv").out, newline=""))
    (safe,) = csv.DictReader(io.StringIO(run.run("models", "list", "--csv-safe").out, newline=""))
    guarded = GUARDED.get(title, title)
    for name in ("title", "email", "team_name", "status"):
        assert (exact[name], safe[name]) == (title, guarded)
    assert exact["id"] == safe["id"] == MODEL


def test_help_says_why_there_are_two_kinds_of_csv(run: Cli) -> None:
    words = " ".join(run.run("models", "list", "--help").out.split())
    assert "every value exactly as it is" in words
    assert "would run a title like =HYPERLINK(…) as a formula" in words


# Notifications.

TITLE = "<b>Ann</b> **x** [y](https://evil.example) @everyone\n  0000 (all is well)\x1b[2J\u202e"
ONE_LINE = "<b>Ann</b> **x** [y](https://evil.example) @\u200beveryone 0000 (all is well) [2J"


def notify(database_url: str, url: str) -> str:
    """Let one model with a hostile title fail, and notify a receiver; its id."""
    with settled(database_url, alert_urls=url, alert_show_names=True) as here:
        (model_id,) = fail(here, 1)
        here.sql("update headshotpro.models set title = %s", TITLE)
        here.look()
        here.deliver()
    return model_id


def test_a_title_is_one_line_of_text_in_a_notification(database_url: str, hook: NotificationReceiver) -> None:
    model_id = notify(database_url, hook.url)
    (message,) = hook.got
    line = message["message"].splitlines()[0]
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  model failed: {re.escape(f'{model_id} ({ONE_LINE})')}", line
    )
    assert obeyed(message["message"]) == set()


def test_a_title_is_no_markup_in_an_email(database_url: str) -> None:
    with smtp_server() as (url, mailbox):
        model_id = notify(database_url, url)
    mail = message_from_string(mailbox.mails[0])
    parts = [part for part in mail.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/plain"]
    body = parts[0].get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert f"{model_id} ({ONE_LINE})" in body


@pytest.mark.parametrize(
    "chat",
    [
        (
            "telegram.NotifyTelegram", "tgram://123456789:abcdefg_hijklmnop/12315544/", "text",
            "&lt;b&gt;Ann&lt;/b&gt; **x** [y](https://evil.example)",
        ),
        (
            "discord.NotifyDiscord", f"discord://{'1' * 18}/{'a' * 64}/", "content",
            "\\*\\*x\\*\\* \\[y\\]\\(https",
        ),
    ],
)  # fmt: skip
def test_a_title_is_no_markup_in_a_chat(
    chat: tuple[str, str, str, str], database_url: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, url, field, shown = chat
    got: list[dict[str, Any]] = []

    def take(request: Any) -> Response:
        got.append(request.get_json())
        return Response('{"ok": true}', content_type="application/json")

    httpserver.expect_request("/chat", method="POST").respond_with_handler(take)
    # Their addresses are fixed; what Apprise sends there is what counts.
    monkeypatch.setattr(f"apprise.plugins.{plugin}.notify_url", httpserver.url_for("/chat?"))
    notify(database_url, url)
    sent = next(document[field] for document in got if field in document)
    assert shown in sent
    assert "@everyone" not in sent
    assert obeyed(sent) <= {"\r"}
