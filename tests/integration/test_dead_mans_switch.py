"""HEARTBEAT_URL: requested while the mirror has no problem, silent while it has one, and never printed."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from werkzeug import Response

from service.config import Settings
from tests.support.heartbeats import insert_heartbeat
from tests.support.processes import TEST_TIMEOUT_SECONDS, eventually
from workers.dead_mans_switch import DeadMansSwitch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_httpserver import HTTPServer

    from service.local.servers import Valkey

PATH = "/secret-uuid"


class Watcher:
    """A service that waits for requests, and answers each with a status."""

    def __init__(
        self, server: HTTPServer, status: int = 200, hang: Callable[[float], object] = lambda _seconds: None
    ) -> None:
        self.url = f"http://127.0.0.1:{server.port}{PATH}"
        self.requests: list[str] = []

        def take(request: Any) -> Response:
            self.requests.append(f"{request.method} {request.path}")
            hang(TEST_TIMEOUT_SECONDS)
            return Response("", status=status, headers={"Location": f"http://127.0.0.1:{server.port}/elsewhere"})

        server.expect_request(PATH).respond_with_handler(take)


@contextmanager
def running(
    url: str, database: str, redis: str, *, acting: bool = True, every: float = 0.1
) -> Iterator[DeadMansSwitch]:
    settings = Settings(heartbeat_url=url, database_url=database, redis_url=redis, headshotpro_webhook_secret="5e" * 32)
    switch = DeadMansSwitch(settings, lambda: acting)
    with patch.multiple("workers.dead_mans_switch", EVERY_SECONDS=every, CHECK_SECONDS=0.05):
        switch.start()
        try:
            yield switch
        finally:
            switch.close()


def grows(watcher: Watcher, seconds: float = TEST_TIMEOUT_SECONDS) -> bool:
    """Whether one more request comes."""
    before = len(watcher.requests)
    return bool(eventually(lambda: len(watcher.requests) > before, seconds))


def test_url_falls_silent_while_a_worker_is_missing(httpserver: HTTPServer, database_url: str, redis_url: str) -> None:
    watcher = Watcher(httpserver)
    insert_heartbeat(database_url)
    with running(watcher.url, database_url, redis_url):
        assert eventually(lambda: len(watcher.requests) > 2)
        insert_heartbeat(database_url, "worker", seconds_ago=30)
        assert eventually(lambda: not grows(watcher, 0.5))
        insert_heartbeat(database_url)
        assert grows(watcher)
    assert set(watcher.requests) == {f"GET {PATH}"}


def test_url_is_requested_once_in_its_interval(httpserver: HTTPServer, database_url: str, redis_url: str) -> None:
    watcher = Watcher(httpserver)
    insert_heartbeat(database_url)
    with running(watcher.url, database_url, redis_url, every=60):
        assert grows(watcher)
        assert not grows(watcher, 0.5)


def test_outage_of_redis_silences_the_url(httpserver: HTTPServer, database_url: str, own_valkey: Valkey) -> None:
    watcher = Watcher(httpserver)
    insert_heartbeat(database_url)
    with running(watcher.url, database_url, own_valkey.url):
        assert grows(watcher)
        own_valkey.stop()
        assert eventually(lambda: not grows(watcher, 0.5))


def test_clock_that_stands_by_requests_nothing(httpserver: HTTPServer, database_url: str, redis_url: str) -> None:
    watcher = Watcher(httpserver)
    insert_heartbeat(database_url)
    with running(watcher.url, database_url, redis_url, acting=False):
        assert not grows(watcher, 0.5)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_refusal_is_logged_without_the_url_and_tried_again(
    httpserver: HTTPServer, database_url: str, redis_url: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = Watcher(httpserver, status)
    insert_heartbeat(database_url)
    # Longer than the test waits: a second request is the first one again.
    with running(watcher.url, database_url, redis_url, every=600):
        assert eventually(lambda: len(watcher.requests) > 1)
    printed = "".join(capsys.readouterr())
    assert "heartbeat_url.failed" in printed
    assert str(status) in printed
    assert "secret-uuid" not in printed
    # A redirect is not followed.
    assert set(watcher.requests) == {f"GET {PATH}"}


def test_unreachable_url_is_logged_without_it(
    database_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    insert_heartbeat(database_url)
    seen: list[str] = []

    def logged() -> bool:
        seen.append("".join(capsys.readouterr()))
        return "heartbeat_url.failed" in "".join(seen)

    with running(f"http://127.0.0.1:9{PATH}", database_url, redis_url):
        assert eventually(logged)
    assert "secret-uuid" not in "".join(seen)


def test_server_that_hangs_never_holds_the_clock_up(httpserver: HTTPServer, database_url: str, redis_url: str) -> None:
    responds = threading.Event()
    watcher = Watcher(httpserver, hang=responds.wait)
    insert_heartbeat(database_url)
    with (
        patch("workers.dead_mans_switch.REQUEST_SECONDS", TEST_TIMEOUT_SECONDS),
        running(watcher.url, database_url, redis_url) as switch,
    ):
        assert grows(watcher)
        switch.close()
        # The request still hangs.
        assert switch._thread.is_alive()
        responds.set()
