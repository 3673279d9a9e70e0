"""Fixtures of integration tests on top of the servers: a mirror to drive by hand, the endpoint alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.cli import Cli
from tests.support.system import event_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from pytest_httpserver import HTTPServer

    from service.local.servers import Postgres
    from tests.conftest import StartSandbox
    from tests.support.alerting import AlertingHarness, NotificationReceiver
    from tests.support.databases import Databases
    from tests.support.drainer import Drainer
    from tests.support.list_vendor import ListVendor
    from tests.support.mirror import Mirror, StartMirror
    from tests.support.sending import Sending

    StartOdd = Callable[..., tuple[ListVendor, Mirror]]


@pytest.fixture(autouse=True, scope="session")
def _templates_compiled_once() -> None:
    """Keep compiled templates for the whole run: each test has an application of its own, which compiles them anew."""
    from flask import Flask
    from jinja2 import FileSystemBytecodeCache

    from tests.support.servers import share_folder

    Flask.jinja_options = {"bytecode_cache": FileSystemBytecodeCache(str(share_folder()))}


@pytest.fixture
def mirror(sandbox: StartSandbox, database_url: str, redis_url: str) -> Iterator[StartMirror]:
    """Starts a mirror of a new sandbox in which nothing happens by itself: `mirror(models=50, settings={…})`."""
    from tests.support.mirror import Mirror

    started: list[Mirror] = []

    def start(settings: dict[str, Any] | None = None, **options: Any) -> Mirror:
        running = sandbox(**{"quiet": True, "rate": 0, **options})
        started.append(Mirror(running, database_url, redis_url, **(settings or {})))
        return started[-1]

    yield start
    for one in started:
        with suppress(psycopg.Error):
            one.close()


@pytest.fixture
def mirrored(mirror: StartMirror) -> Mirror:
    """A mirror of forty models of a whitelabel organization, pulled once."""
    started = mirror(models=40)
    assert started.pull()["status"] == "complete"
    return started


@pytest.fixture
def endpoint(folder: Path, redis_url: str) -> FlaskClient:
    """The web application with Redis alone: Postgres is not on a delivery's path."""
    from tests.support.webhook_endpoint import client_of

    return client_of(folder, REDIS_URL=redis_url)


@pytest.fixture
def cli(folder: Path, database_url: str, redis_url: str) -> Iterator[Cli]:
    """The command line over this test's servers, its upstream out of reach; it prints no secret and no address."""
    from tests.support.system import NOWHERE, SECRET

    started = Cli(
        folder,
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        HEADSHOTPRO_API_URL=NOWHERE,
        HEADSHOTPRO_API_KEY="key-of-the-tests",
        HEADSHOTPRO_WEBHOOK_SECRET=SECRET,
    )
    yield started
    assert started.leaks() == []


@pytest.fixture
def hook(httpserver: HTTPServer) -> NotificationReceiver:
    """A receiver of notifications."""
    from tests.support.alerting import NotificationReceiver

    return NotificationReceiver(httpserver)


@pytest.fixture
def here(database_url: str, hook: NotificationReceiver) -> Iterator[AlertingHarness]:
    """A watch over a mirror whose past was summed up long ago, and its one receiver."""
    from tests.support.alerting import REMINDER, settled

    with settled(database_url, alert_urls=hook.url, alert_reminder_seconds=REMINDER) as opened:
        yield opened


@pytest.fixture
def odd(database_url: str, redis_url: str) -> Iterator[StartOdd]:
    """Starts a mirror of an upstream whose every answer is the test's: `odd(models(500))`."""
    from contextlib import ExitStack

    from tests.conftest import Sandbox
    from tests.support.list_vendor import list_vendor
    from tests.support.mirror import Mirror

    with ExitStack() as stack:

        def start(records: list[Any], **settings: Any) -> tuple[ListVendor, Mirror]:
            vendor = stack.enter_context(list_vendor(records))
            nothing: Any = None
            running = Sandbox(vendor.url, "key", "f" * 64, vendor.url, nothing)
            here = Mirror(running, database_url, redis_url, **settings)
            stack.callback(here.close)
            return vendor, here

        yield start


@pytest.fixture
def two_pulls(database_url: str) -> None:
    """A full pull that is complete, and a hot one that failed."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.pulls (kind, status, started_at, finished_at, requests, error) values "
            "('full', 'complete', now() - interval '90 s', now() - interval '60 s', 54, null), "
            "('hot', 'failed', now(), null, 5, 'the upstream refused: 401 UNAUTHORIZED')"
        )


@pytest.fixture
def two_events(database_url: str) -> None:
    """An event that was applied, and one that is dead."""
    body = event_body("507f1f77bcf86cd799439011", title="Zoë").decode()
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into headshotpro.webhook_events "
            "(id, event, model_id, status, error, payload, created_at, received_at, processed_at, deliveries) values "
            "('evt_1', 'model.created', '507f1f77bcf86cd799439011', 'applied', null, %s, now(), now(), now(), 2), "
            "('evt_2', 'model.created', null, 'dead', 'no time', '{}', null, now() - interval '1 s', now(), 1)",
            [body],
        )


@pytest.fixture
def sending(drainer: Drainer) -> Sending:
    """Senders of changes over this test's database."""
    from tests.support.sending import Sending

    return Sending(drainer)


@pytest.fixture(scope="module")
def database(postgres: Postgres, _databases: Databases) -> Iterator[str]:
    """One database for all tests of a file, which change nothing in it that another one looks at."""
    name = _databases.take()
    yield postgres.url_of(name)
    _databases.release(name)


@pytest.fixture
def browser(tmp_path: Path, database: str, redis_url: str) -> FlaskClient:
    """An operator who has logged in to the console of `database`."""
    from tests.support.console import console, log_in

    found = console(tmp_path, database, redis_url)
    log_in(found)
    return found
