"""Every page of the console uses this: reads within a time limit, templates with the values of the base page, slots."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import g, render_template, url_for
from werkzeug.exceptions import ServiceUnavailable

from service import __version__
from service.broker.jobs import Job
from service.errors import RedisUnavailable
from service.storage import database
from service.web.console import limits, presentation, security, static_files
from service.web.console.limits import MAX_REQUESTS, WAIT_SECONDS, RequestSlots
from service.web.console.sessions import Role
from service.web.console.streams import Streams
from service.web.console.tail import Tail
from service.web.public_pages import backticks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from sqlalchemy import Connection, Engine

    from service.api.writes import UpstreamWriter
    from service.broker.jobs import JobQueue
    from service.config import Settings
    from service.upstream.budget import RequestBudget

# A page whose statements take longer is too much for the servers, and its reader waits no longer.
READ_SECONDS = 5.0
# What is new is read once a second.
TAIL_SECONDS = 2.0
POOL_TIMEOUT_SECONDS = 2.0
# Acts that wait for servers of others; pages need not wait for them.
MAX_OUTSIDE = 2
OUTSIDE_REFUSAL = (
    f"Nothing was done: {MAX_OUTSIDE} other acts wait for the vendor or for receivers at this moment. Each ends within "
    "half a minute: send the form again then."
)


# Labels and endpoints, in the order of the navigation.
NAVIGATION = (
    ("Overview", "console.overview"),
    ("Models", "console.models"),
    ("Changes", "console.changes"),
    ("Events", "console.events"),
    ("Pulls", "console.pulls"),
    ("Alerts", "console.alerts"),
    ("Subscriptions", "console.subscriptions"),
    ("Set aside", "console.set_aside"),
    ("Accuracy", "console.accuracy"),
    ("Audit", "console.audit"),
    ("Settings", "console.settings"),
)


class Console:
    """The console of one web process.

    Attributes:
        writer: the upstream; None where this process has no API key.
        engine: connections of the console alone: one for each slot, and one for the streams.
        slots: how many of its requests work at a time.
        outside: how many of its acts wait at a time for the upstream or for receivers.
    """

    def __init__(
        self,
        settings: Settings,
        writer: UpstreamWriter | None,
        queue: JobQueue,
        budget: RequestBudget,
    ) -> None:
        self.settings = settings
        self.writer = writer
        self.queue = queue
        self.budget = budget
        self.engine: Engine = database.connect(
            # One more than requests: the streams read, too. Two are kept: beside the reading of the streams a page that
            # is made would connect each time, which costs more than the page.
            settings.postgres_url, pool_size=2, overflow=MAX_REQUESTS - 1, pool_timeout=POOL_TIMEOUT_SECONDS,
            connect_timeout=2,
        )  # fmt: skip
        self.slots = RequestSlots()
        self.outside = RequestSlots(MAX_OUTSIDE, refusal=OUTSIDE_REFUSAL)
        self.streams = Streams(lambda: Tail(lambda: self.reading(TAIL_SECONDS)))
        self.names = presentation.Names(shown=settings.console_show_names)

    @contextmanager
    def reading(self, seconds: float = READ_SECONDS) -> Iterator[Connection]:
        """A transaction for the statements of one page.

        Raises:
            StatementTimeout: a statement took longer than `seconds`.
            PostgresUnavailable: Postgres cannot be reached.
        """
        with database.transaction(self.engine, seconds) as connection:
            yield connection

    @property
    def upstream(self) -> UpstreamWriter:
        """The upstream.

        Raises:
            ServiceUnavailable: this process has no API key.
        """
        if self.writer is None:
            raise ServiceUnavailable("HEADSHOTPRO_API_KEY is missing: this process cannot ask the vendor.")
        return self.writer

    def queue_tasks(self) -> None:
        """Wake a worker for a task that has just begun; without Redis the clock does so once it is back."""
        with suppress(RedisUnavailable):
            self.queue.enqueue(Job.RUN_TASKS)

    @contextmanager
    def waiting_outside(self) -> Iterator[None]:
        """For the part of a request that waits for the upstream or for receivers: pages get its slot meanwhile.

        Raises:
            ServiceUnavailable: too many acts wait already.
        """
        self.slots.give_back()
        with self.outside.turn(WAIT_SECONDS):
            yield

    def render(self, template: str, **context: Any) -> str:
        """A page of the console: a file below `templates/console`, with what it shows."""
        # Its statements are over, and their rows were read.
        limits.give_way()
        return render_template(f"console/{template}", **context)

    def prepare(self, app: Flask) -> None:
        """Give the templates what they all use."""
        environment = app.jinja_env
        environment.filters |= {
            "tone": presentation.tone,
            "exact_time": presentation.exact_time,
            "stored_time": presentation.stored_time,
            "iso_time": presentation.iso_time,
            "number": presentation.number,
            "percent": presentation.percent,
            "duration": presentation.duration,
            "visible": presentation.visible,
            "backticks": backticks,
            "pretty_json": presentation.pretty_json,
            "highlight": presentation.highlight,
            "person": self.names.person,
            "field_value": self.names.text,
            "in_turns": limits.in_turns,
            "without": lambda parameters, name: {key: one for key, one in parameters.items() if key != name},
            "from_seconds": lambda seconds: datetime.fromtimestamp(seconds, UTC),
        }
        environment.globals |= {
            "url_with": presentation.url_with,
            "page_url": presentation.page_url,
            "csp_nonce": security.nonce,
            "static_url": static_files.static_url,
            "console_version": __version__,
        }

    def context(self) -> dict[str, Any]:
        """Values of this request for the base page: its session and the navigation."""
        session = g.get("console_session")
        if session is None:
            return {"session": None, "navigation": []}
        return {
            "session": session,
            "may_act": session.role >= Role.OPERATOR,
            "names_shown": self.names.shown,
            "navigation": [(label, url_for(endpoint), endpoint) for label, endpoint in NAVIGATION],
        }
