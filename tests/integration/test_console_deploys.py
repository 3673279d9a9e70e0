"""A deploy with open consoles: streams end at once, web ends in time, and clients come back to the next process."""

from __future__ import annotations

import os
import time
from signal import SIGHUP
from typing import TYPE_CHECKING

import pytest

from tests.support.console import OPERATOR
from tests.support.console_streams import StreamReader, many_streams, session_cookie
from tests.support.processes import descendants, eventually
from tests.support.servers import temporary_folder
from tests.support.system import System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.local.servers import Postgres, Valkey

# They share what they start: one worker of pytest runs them all.
pytestmark = pytest.mark.xdist_group("console deploys")

STREAMS = 50
# The limit of a graceful shutdown. Idle connections of deliveries have two seconds of it for a last request.
TO_END_SECONDS = 10


@pytest.fixture(scope="module")
def system(postgres: Postgres, valkey: Valkey) -> Iterator[System]:
    with (
        temporary_folder() as folder,
        System(folder, DATABASE_URL=postgres.url, REDIS_URL=valkey.url, CONSOLE_PASSWORD=OPERATOR) as running,
    ):
        yield running


def test_deploy_with_open_streams_ends_within_the_limit(system: System) -> None:
    web = system.start("web")
    system.wait_for_web()
    with many_streams(system.url, session_cookie(system.url), STREAMS) as readers:
        began = time.monotonic()
        web.process.terminate()
        # Each has a proper end: a stream that is broken off raises an error here.
        ended = [[one.data for one in reader.messages() if one.data] for reader in readers]
        streams_took = time.monotonic() - began
        assert web.process.wait(TO_END_SECONDS) == 0, system.logs()
        took = time.monotonic() - began
    assert ended == [[]] * STREAMS
    assert streams_took < took < TO_END_SECONDS, (streams_took, took)
    assert "broken off" not in web.said


def test_stream_of_a_worker_that_is_replaced_goes_on_at_the_next(system: System) -> None:
    web = system.start("web")
    system.wait_for_web()
    cookie = session_cookie(system.url)
    assert eventually(lambda: len(descendants(web.process.pid)) == 1)
    (worker,) = descendants(web.process.pid)
    with StreamReader(system.url, cookie, "changes") as reader:
        place = reader.ready().id
        os.kill(web.process.pid, SIGHUP)
        assert [one.data for one in reader.messages() if one.data] == []
    assert eventually(lambda: worker not in descendants(web.process.pid)), system.logs()
    assert system.deliver(event_body(new_id())).status == 202
    with StreamReader(system.url, cookie, "changes") as reader:
        assert reader.ready().id == place
    assert web.stop() == 0


def test_fifty_streams_leave_deliveries_and_pages_their_room(system: System) -> None:
    web = system.start("web")
    system.wait_for_web()
    cookie = session_cookie(system.url)
    with many_streams(system.url, cookie, STREAMS), StreamReader(system.url, cookie, "events") as refused:
        assert refused.status == 503
        assert {system.deliver(event_body(new_id())).status for _ in range(20)} == {202}
    # Clients that have left are found before a heartbeat fails.
    assert eventually(lambda: _is_admitted(system.url, cookie), 5), system.logs()
    assert web.stop() == 0


def _is_admitted(url: str, cookie: str) -> bool:
    with StreamReader(url, cookie, "events") as reader:
        return reader.status == 200
