"""Streams of the console, each over a socket of its own, and open pages that they keep current."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import psycopg

from tests.support.console import OPERATOR, console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask
    from playwright.sync_api import Page

    from service.web.console.streams import Streams

STREAM = "/console/stream?of="
# The page's clock stands still in a test; messages come all the same.
COUNT_MESSAGES = """
    window.heard = 0;
    const Own = window.EventSource;
    window.EventSource = class extends Own {
        constructor(...given) {
            super(...given);
            for (const name of ["ready", "message"]) super.addEventListener(name, () => { window.heard += 1; });
        }
    };
"""


class Message(NamedTuple):
    """A block of a stream; `data` is None where it is a heartbeat."""

    id: str
    event: str
    data: str | None

    @property
    def keys(self) -> list[str]:
        """The rows that it names."""
        return list(json.loads(self.data)["keys"]) if self.data else []


class StreamReader:
    """One stream; `status` is of its response, and nothing is read of it before it is asked for."""

    def __init__(self, url: str, cookie: str, of: str, **headers: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        self._connection.request("GET", STREAM + of, headers={"Cookie": cookie, **headers})
        self.response = self._connection.getresponse()
        self.status = self.response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Without this the socket stays open for the response.
        self.response.close()
        self._connection.close()

    def messages(self) -> Iterator[Message]:
        """Each block, until the stream ends."""
        fields: dict[str, str] = {}
        for line in self.response:
            name, colon, value = line.decode().rstrip("\n").partition(": ")
            if name or colon:
                fields[name] = value
            elif fields:
                yield Message(fields.get("id", ""), fields.get("event", ""), fields.get("data"))
                fields = {}

    def ready(self) -> Message:
        """The message by which the stream begins."""
        return next(one for one in self.messages() if one.event == "ready")

    def keys(self) -> list[str]:
        """The rows of the next message that names some."""
        return next(one.keys for one in self.messages() if one.keys)


def session_cookie(url: str, password: str = OPERATOR) -> str:
    """Log in: the header `Cookie` of the session."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
    connection.request("POST", "/console/login", urlencode({"password": password}), form)
    response = connection.getresponse()
    connection.close()
    return (response.headers["Set-Cookie"] or "").partition(";")[0]


@contextmanager
def many_streams(url: str, cookie: str, number: int) -> Iterator[list[StreamReader]]:
    """Some streams, all of them ready."""
    readers: list[StreamReader] = []
    try:
        readers.extend(StreamReader(url, cookie, "changes") for _ in range(number))
        for reader in readers:
            reader.ready()
        yield readers
    finally:
        for reader in readers:
            reader.__exit__()


_CHANGE = """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at)
    values (%s, 'active', '{"photo_count": [1, 2]}', 'pull', now(), now())
"""


def streams_of(app: Flask) -> Streams:
    """What serves an application's streams."""
    found: Streams = app.extensions["console_streams"]
    return found


def app_with_changes(folder: Path, database_url: str, redis_url: str) -> Flask:
    """A console whose list of changes is longer than a screen, and shows a new one soon."""
    app = console(folder, database_url, redis_url).application
    streams_of(app).poll_seconds = 0.1
    with psycopg.connect(database_url) as connection:
        connection.cursor().executemany(_CHANGE, [[f"old{number}"] for number in range(60)])
    return app


def add_change(database_url: str, model: str) -> str:
    """Write a change of a model: its id."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_CHANGE, [model])
    return model


def wait_for_mode(page: Page, expected: str) -> None:
    """Wait until the heading says how the page is kept current."""
    page.locator("[data-mode]").get_by_text(expected, exact=True).wait_for()
