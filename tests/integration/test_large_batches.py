"""Batches larger than the buffers of a connection: each is applied, in transactions of bounded size, and none hangs.

In psycopg's pipeline mode client and server each waited for ever for the other one to read (psycopg issue 685).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from service.local.servers import postgres as embedded_postgres
from service.mirror.drain import drain_batch
from tests.support.drainer import T0, TOLERANCE, Drainer, opened
from tests.support.mirror import Mirror
from tests.support.servers import new_postgres
from tests.support.system import event_body, new_id, rows
from tests.support.threads import run_concurrently

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartSandbox

# Far longer than it takes; what hangs, hangs for ever.
SECONDS = 40.0


@pytest.fixture(scope="module")
def socket_url() -> Iterator[str]:
    """A migrated database of this file alone, over a Unix socket."""
    with _folder() as data, _folder() as sockets, pytest.MonkeyPatch.context() as patch:
        # The server may run as another user.
        sockets.chmod(0o777)
        patch.setitem(embedded_postgres.SETTINGS, "unix_socket_directories", str(sockets))
        with new_postgres(data / "postgres", migrated=True) as server:
            address = f"127.0.0.1:{server.port}"
            assert address in server.url
            yield server.url.replace(address, "") + f"?host={quote(str(sockets))}&port={server.port}"


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hm-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def text_of(size: int) -> str:
    """Text that no compression makes smaller."""
    return os.urandom(size // 2).hex()


def bodies(number: int, size: int) -> list[bytes]:
    return [event_body(new_id(), at=T0, title=text_of(size)) for _ in range(number)]


def drain_all(drainer: Drainer) -> None:
    while entries := drainer.box.read(500, 0):
        drain_batch(drainer.engine, drainer.box, entries, TOLERANCE)


def applied(url: str, sent: list[bytes]) -> bool:
    query = "select count(*) from headshotpro.webhook_events where status = 'applied' and id = any(%s)"
    ids = [body.split(b'"id": "', 1)[1].split(b'"', 1)[0].decode() for body in sent]
    return bool(rows(url, query, ids)[0]["count"] == len(sent))


@pytest.mark.long
def test_400_events_of_60_kb_are_applied_over_tcp(drainer: Drainer) -> None:
    sent = bodies(400, 60_000)
    drainer.put(*sent)
    run_concurrently(lambda: drain_all(drainer), seconds=SECONDS)
    assert applied(drainer.url, sent)
    drainer.assert_empty()


@pytest.mark.parametrize(("number", "size"), [(500, 20_000), pytest.param(500, 5_000, marks=pytest.mark.long)])
def test_events_larger_than_a_unix_sockets_buffer_are_applied(
    socket_url: str, redis_url: str, number: int, size: int
) -> None:
    with opened(socket_url, redis_url) as drainer:
        sent = bodies(number, size)
        drainer.put(*sent)
        run_concurrently(lambda: drain_all(drainer), seconds=SECONDS)
        assert applied(socket_url, sent)


def test_pull_of_1200_long_titles_completes_over_a_unix_socket(
    sandbox: StartSandbox, socket_url: str, redis_url: str
) -> None:
    here = Mirror(sandbox(quiet=True, rate=0, models=0), socket_url, redis_url)
    try:
        # Models that other tests of this file left are no suspects.
        here.sql("truncate headshotpro.models, headshotpro.model_clocks")
        here.create(1_200, title=text_of(2_000))
        run_concurrently(here.pull, seconds=SECONDS)
        (pull,) = here.sql("select status, inserted from headshotpro.pulls order by id desc limit 1")
        assert (pull["status"], pull["inserted"]) == ("complete", 1_200)
    finally:
        here.close()
