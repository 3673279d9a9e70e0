"""Alerts in a test's hands: looks and sendings when it wants them, time that passes at once, real receivers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from aiosmtpd.controller import Controller
from psycopg.rows import dict_row

from service.alerts.desk import Desk
from service.alerts.receivers import of
from service.alerts.watch import WINDOW_SECONDS, Plan, Watch
from service.config import Settings
from service.embedded import free_port
from service.storage import database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpserver import HTTPServer

# Every time that alerts look at.
TIMES = {
    "models": ("created_at", "observed_at", "updated_at"),
    "model_changes": ("recorded_at", "observed_at"),
    "pulls": ("started_at", "finished_at"),
    "webhook_events": ("created_at", "received_at", "processed_at"),
    "alerts": ("opened_at", "resolved_at", "acknowledged_at", "last_notice_at"),
    "alert_watch": ("looking_since", "past_until", "past_summed_at", "key_refused_at", "key_accepted_at"),
    "notices": ("made_at", "released_at"),
    "receivers": ("retry_at",),
}

Row = dict[str, Any]


class Office:
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
        """As if the process had died and come again: what it has in hand is given up."""
        plan = Plan.of(self.settings)
        self.watch = Watch(self.engine, plan)
        self.desk = Desk(
            self.engine,
            of(self.settings),
            show_names=self.settings.alert_show_names,
            public_url=self.settings.public_url,
        )
        self.desk.announce()

    def look(self) -> None:
        """One look, due or not."""
        self.watch._next_look = 0.0
        self.watch.tick()

    def send(self) -> None:
        """Send what waits, and wait for the end of that."""
        self.desk.tick()
        self.desk.close(60)

    def deliver(self) -> None:
        """Let the window pass, then look, hand out and send."""
        self.let_pass(WINDOW_SECONDS)
        self.look()
        self.send()

    def let_pass(self, seconds: float) -> None:
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
def office(database_url: str, **settings: Any) -> Iterator[Office]:
    """An office that ends with the block."""
    opened = Office(database_url, **settings)
    try:
        yield opened
    finally:
        opened.close()


class Hook:
    """A receiver of `json://` notices, on the HTTP server of pytest-httpserver.

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
    """What an SMTP server was given."""

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
