"""RQ's worker as we mended it: what its own loop would miss."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from service.config import Settings
from service.queue import DRAIN_QUEUE, queue_of
from service.runtime import Runtime
from workers.rq_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _signals_stay_pytests() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_signal_that_came_while_rqs_loop_was_being_set_up_ends_it(database_url: str, redis_url: str) -> None:
    runtime = Runtime.build(Settings(database_url=database_url, redis_url=redis_url))
    queue = queue_of(runtime.redis, DRAIN_QUEUE)
    worker = Worker([queue], connection=runtime.redis, serializer=JSONSerializer)
    worker.runtime = runtime
    # Our own handler took it: RQ's are not there yet, and its loop would wait for a job first.
    runtime.stop.set()
    with pytest.raises(StopRequested):
        worker.work(burst=True)
