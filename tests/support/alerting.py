"""Alerts in a test's hands: looks and sendings when it wants them, time that passes at once, real receivers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from aiosmtpd.controller import Controller
from psycopg.rows import dict_row

from service.alerts.evaluator import NOTIFICATION_WINDOW_SECONDS, AlertEvaluator
from service.alerts.links import Links
from service.alerts.outbox_sender import OutboxSender
from service.alerts.receivers import from_settings
from service.config import Settings
from service.storage import database
from tests.support.ports import free_port
from tests.support.system import event_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpserver import HTTPServer

    from tests.support.drainer import Drainer

# Every time that alerts look at.
TIMES = {
    "models": ("created_at", "observed_at", "updated_at"),
    "model_changes": ("recorded_at", "observed_at"),
    "pulls": ("started_at", "finished_at"),
    "webhook_events": ("created_at", "received_at", "processed_at"),
    "alerts": ("opened_at", "resolved_at", "acknowledged_at", "last_notified_at"),
    "alert_evaluator": (
        "observing_since",
        "first_pull_finished_at",
        "first_summary_at",
        "key_refused_at",
        "key_accepted_at",
    ),
    "notifications": ("created_at", "released_at"),
    "receivers": ("retry_at",),
}

# Seconds between the reminders of a test that has some.
REMINDER = 3600

Row = dict[str, Any]


class AlertingHarness:
    """One process that watches and sends, over a test's database.

    Args:
        database_url: the mirror's.
        **settings: what differs from the defaults.
    """

    def __init__(self, database_url: str, **settings: Any) -> None:
        self.settings = Settings(**{"database_url": database_url, **settings})
        self.engine = database.connect(database_url)
        self._connection = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        self.restart()

    def restart(self) -> None:
        """As if the process had died and started again: the messages in flight are given up."""
        self.watch = AlertEvaluator(self.engine, self.settings)
        self.desk = OutboxSender(
            self.engine,
            from_settings(self.settings),
            show_names=self.settings.alert_show_names,
            links=Links.from_settings(self.settings),
        )
        self.desk.register_receivers()

    def look(self) -> None:
        """One look, due or not."""
        self.watch._next_evaluation = 0.0
        self.watch.tick()

    def send(self) -> None:
        """Send what waits, and wait for the end of that."""
        self.desk.tick()
        self.desk.close(60)

    def deliver(self) -> None:
        """Let the window pass, then look, hand out and send."""
        self.advance_time(NOTIFICATION_WINDOW_SECONDS)
        self.look()
        self.send()

    def advance_time(self, seconds: float) -> None:
        """Let time go by, for all that has happened so far."""
        for table, names in TIMES.items():
            sets = ", ".join(f"{name} = {name} - interval '{seconds} seconds'" for name in names)
            self.sql(f"update headshotpro.{table} set {sets}")

    def sql(self, query: str, *values: object) -> list[Row]:
        cursor = self._connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def alerts(self, *, only_open: bool = True) -> list[Row]:
        """Alerts in the order in which they were opened."""
        where = "where resolved_at is null" if only_open else ""
        return self.sql(f"select * from headshotpro.alerts {where} order by id")

    def open_kinds(self) -> list[str]:
        return [row["kind"] for row in self.alerts()]

    def close(self) -> None:
        self._connection.close()
        self.engine.dispose()


@contextmanager
def alerting_harness(database_url: str, **settings: Any) -> Iterator[AlertingHarness]:
    """An office that ends with the block."""
    opened = AlertingHarness(database_url, **settings)
    try:
        yield opened
    finally:
        opened.close()


def pulled(
    here: AlertingHarness, seconds_ago: float = 0, kind: str = "full", status: str = "complete", missed: int = 0
) -> None:
    here.sql(
        "insert into headshotpro.pulls (kind, status, started_at, finished_at, missed_webhooks) values "
        f"(%s, %s, now() - interval '{seconds_ago} seconds', now() - interval '{seconds_ago} seconds', %s)",
        kind, status, missed,
    )  # fmt: skip


def take(drainer: Drainer, model_id: str, *statuses: str, **fields: Any) -> None:
    """Hear of a model's statuses, one after the other."""
    for status in statuses:
        drainer.take(event_body(model_id, status=status, **fields))


@contextmanager
def settled(database_url: str, **settings: Any) -> Iterator[AlertingHarness]:
    """An office of a mirror whose first pull was a year ago; no other is ever due."""
    with alerting_harness(database_url, pull_interval_seconds=10**9, **settings) as here:
        if not here.sql("select id from headshotpro.pulls"):
            here.sql(
                "insert into headshotpro.pulls (kind, status, started_at, finished_at) "
                "values ('full', 'complete', now(), now())"
            )
            here.look()
            here.advance_time(31_536_000)
        yield here


def fail(here: AlertingHarness, number: int, since: float = 700) -> list[str]:
    """Models that failed this many seconds ago."""
    ids = [f"{place:024x}" for place in range(number)]
    here.sql(
        "with m as (insert into headshotpro.models (id, title, email, status, observed_at, updated_at) "
        "select id, 'Ann ' || id, id || '@example.com', 'failed', now(), now() from unnest(%s::text[]) as ids (id) "
        "on conflict (id) do update set status = 'failed' returning id) "
        "insert into headshotpro.model_changes "
        "(model_id, from_status, to_status, changed, source, observed_at, recorded_at) "
        "select id, 'pending', 'failed', '{}', 'webhook', t, t "
        f"from m, (select now() - interval '{since} seconds' as t) as past",
        ids,
    )
    return ids


def end(here: AlertingHarness) -> None:
    """All models are active again."""
    here.sql("update headshotpro.models set status = 'active'")


class NotificationReceiver:
    """A receiver of `json://` notifications, on the HTTP server of pytest-httpserver.

    Attributes:
        url: its Apprise URL; the path is its secret.
        status: what it answers.
    """

    def __init__(self, server: HTTPServer, path: str = "/hook-that-is-secret") -> None:
        from werkzeug import Response

        self.url = f"json://127.0.0.1:{server.port}{path}"
        self.status = 200
        self.got: list[Row] = []

        def take(request: Any) -> Response:
            if self.status < 400:
                self.got.append(request.get_json())
            return Response("", status=self.status)

        server.expect_request(path).respond_with_handler(take)

    @property
    def titles(self) -> list[str]:
        return [message["title"].removeprefix("headshot-mirror: ") for message in self.got]


class Mailbox:
    """The mails that an SMTP server received."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content.decode())
        return "250 OK"


@contextmanager
def smtp_server() -> Iterator[tuple[str, Mailbox]]:
    """A real SMTP server: its Apprise URL, and what it is given."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield f"mailto://127.0.0.1:{controller.port}/?from=mirror@example.com&to=oncall@example.com", mailbox
    finally:
        controller.stop()
