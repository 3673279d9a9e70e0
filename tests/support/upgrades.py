"""A database of the first revision that is full and in use, and a later revision to bring it to.

`revisions/` holds a made-up revision, which does to tables in use everything that a revision may do.
"""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text

from service.errors import PostgresUnavailable
from service.mirror.apply import apply
from service.mirror.merge import Observation
from service.storage import database
from service.storage.migrations import revision, schema
from tests.support.system import event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

FIRST, NEWEST = "0001_first", "9999_made_up"
TITLES = ("Ada", "Grace", "Joan", "Mary")

MODELS = """
    insert into headshotpro.models (id, status, title, team_id, created_at, observed_at, updated_at)
    select 'old' || n, case when n %% 10 = 0 then 'failed' else 'active' end, 'Old', 'team' || n %% 7,
        now() - n * interval '1 minute', now() - interval '1 day', now() - interval '1 day'
    from generate_series(1, %s) as n
"""
REST = (
    """
        insert into headshotpro.model_clocks (model_id, core_at, profile_at)
        select id, observed_at, observed_at from headshotpro.models
    """,
    """
        insert into headshotpro.model_changes
            (model_id, from_status, to_status, changed, source, observed_at, recorded_at)
        select id, nullif(n, 1)::text, case when n = 1 then 'pending' else status end,
            jsonb_build_object('status', jsonb_build_array(null, status)), 'pull', observed_at, updated_at
        from headshotpro.models, generate_series(1, 3) as n order by n
    """,
    """
        insert into headshotpro.webhook_events (id, event, model_id, status, payload, received_at, processed_at)
        select 'evt_' || id, 'model.created', id, 'applied', '{}', updated_at, updated_at from headshotpro.models
    """,
    "analyze",
)
# The rows that the first revision's code wrote for an event.
EVENT = text(
    """
    INSERT INTO headshotpro.webhook_events (id, event, model_id, status, payload, received_at, processed_at)
    VALUES (:id, 'model.status.updated', :model_id, 'applied', '{}', now(), now())
    """
)
# How the first revision's code wrote a model, in this order.
FIRST_RELEASE = (
    text(
        "INSERT INTO headshotpro.model_clocks (model_id, core_at) VALUES (:id, :at) "
        "ON CONFLICT (model_id) DO UPDATE SET core_at = excluded.core_at"
    ),
    text(
        "INSERT INTO headshotpro.models (id, status, title, observed_at, updated_at) "
        "VALUES (:id, 'active', :title, :at, now()) "
        "ON CONFLICT (id) DO UPDATE SET title = excluded.title, observed_at = excluded.observed_at, updated_at = now()"
    ),
    text(
        "INSERT INTO headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at) "
        "VALUES (:id, 'active', '{}', 'webhook', :at, now())"
    ),
)
SPOOL = text("INSERT INTO headshotpro.event_spool (body, signed_at, received_at) VALUES (:body, :signed_at, now())")
READS = (
    text("SELECT count(*) FROM headshotpro.models WHERE status = 'active'"),
    text("SELECT * FROM headshotpro.models ORDER BY created_at DESC, id DESC LIMIT 50"),
    text("SELECT max(id) FROM headshotpro.model_changes"),
    text("SELECT count(*) FROM headshotpro.webhook_events"),
    text("SELECT count(*) FROM headshotpro.alerts"),
)


@contextmanager
def made_up_revision() -> Iterator[None]:
    """Code whose newest revision is the made-up one."""
    with tempfile.TemporaryDirectory(prefix="hm-") as folder, pytest.MonkeyPatch.context() as patch:
        later = Path(shutil.copytree(revision.location(), Path(folder) / "alembic"))
        shutil.copy(Path(__file__).parent / f"revisions/{NEWEST}.py", later / "versions")
        for module in (revision, schema):
            patch.setattr(module, "location", lambda: later)
        yield


def make(url: str, to: str = FIRST) -> None:
    """Bring the schema to a revision, as an older release would have made it."""
    engine = database.connect(url)
    with database.transaction(engine) as connection:
        connection.execute(text(schema.CREATE_SCHEMA))
    schema.upgrade(engine, to)
    engine.dispose()


def fill(url: str, models: int) -> None:
    """Models that are known, each with a history of three changes and one event."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(MODELS, [models])
        for statement in REST:
            connection.execute(statement.encode())


@cache
def printed(*options: str) -> str:
    """The output of `migrate --sql`; it needs no database and no setting, and is always the same."""
    command = [sys.executable, "-m", "service.cli", "migrate", "--sql", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": ""}).stdout


def merge_as_now(connection: Connection, seen: list[Observation]) -> None:
    apply(connection, seen, "webhook")


def merge_as_first_release(connection: Connection, seen: list[Observation]) -> None:
    values = [{"id": one.model_id, "at": one.at, "title": one.fields["title"]} for one in seen]
    for statement in FIRST_RELEASE:
        connection.execute(statement, values)


class DatabaseLoad:
    """Threads that use a database without a pause.

    Args:
        url: of the database.
        merge: writes what was observed, in a transaction.

    Attributes:
        written: event to its model and title, once that was committed.
        spooled: models of the deliveries that were put into the spool.
        longest: seconds that the slowest transaction of any thread took.
        refused: transactions that Postgres broke off.
        reads: transactions of readers.
    """

    def __init__(self, url: str, merge: Callable[[Connection, list[Observation]], None] = merge_as_now) -> None:
        self._engine = database.connect(url, pool_size=6)
        self._merge = merge
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.written: dict[str, tuple[str, str]] = {}
        self.spooled: list[str] = []
        self.longest = 0.0
        self.refused: list[str] = []
        self.reads = 0

    @property
    def latest(self) -> dict[str, str]:
        """The title of each model that was written: a thread has its own models, and writes one after another."""
        return dict(self.written.values())

    def merge(self, thread: int) -> None:
        """Merge events of this thread's models, in batches of five."""
        for number in itertools.count():
            batch = [(f"evt_{thread}_{number}_{place}", f"new{thread}_{place}_{number % 50}") for place in range(5)]
            now, title = datetime.now(UTC), random.choice(TITLES)
            seen = [Observation(model, now, now, {"status": "active", "title": title}) for _, model in batch]

            def write(
                connection: Connection, seen: list[Observation] = seen, batch: list[tuple[str, str]] = batch
            ) -> None:
                self._merge(connection, seen)
                connection.execute(EVENT, [{"id": event, "model_id": model} for event, model in batch])

            if self._timed(write):
                self.written |= {event: (model, title) for event, model in batch}
            if self._over.wait(0.01):
                return

    def spool(self) -> None:
        """Store deliveries as the endpoint does while Redis is unavailable."""
        while not self._over.wait(0.02):
            model = new_id()
            kept = {"body": event_body(model), "signed_at": int(time.time())}
            if self._timed(lambda connection, kept=kept: connection.execute(SPOOL, kept)):
                self.spooled.append(model)

    def read(self) -> None:
        """Ask what dashboards ask."""
        for statement in itertools.cycle(READS):
            self.reads += self._timed(lambda connection, asked=statement: connection.execute(asked).all())
            if self._over.wait(0.01):
                return

    def _timed(self, work: Callable[[Connection], object]) -> bool:
        begun = time.monotonic()
        try:
            with database.transaction(self._engine) as connection:
                work(connection)
        except PostgresUnavailable as error:
            self.refused.append(str(error))
            return False
        finally:
            with self._lock:
                self.longest = max(self.longest, time.monotonic() - begun)
        return True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Three threads that merge, one that spools, one that reads."""
        works = [*(lambda thread=thread: self.merge(thread) for thread in range(3)), self.spool, self.read]
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)
            self._engine.dispose()
