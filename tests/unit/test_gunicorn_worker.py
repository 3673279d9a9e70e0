"""Our changes of gunicorn's worker: its new version has to be read before `pyproject.toml` allows it."""

from __future__ import annotations

import inspect

from gunicorn.workers.ggevent import GeventWorker

from service.web.gunicorn_worker import FairGeventWorker, accepts_per_turn
from tests.faults import test_floods, test_hanging_clients

TESTS = {
    "__init__": test_floods.test_newcomer_takes_the_place_of_the_oldest_idle_connection,
    "run": test_hanging_clients.test_idle_connections_do_not_delay_graceful_shutdown_of_web,
    "handle": test_floods.test_newcomer_takes_the_place_of_the_oldest_idle_connection,
    "timeout_ctx": test_floods.test_idle_connection_ends_after_keepalive_seconds,
    "handle_request": test_floods.test_connection_ends_after_its_share_of_requests,
    "handle_error": test_floods.test_headers_without_end_are_refused,
}


def test_each_overridden_method_of_gunicorns_has_a_test() -> None:
    ours = {
        name for name, _ in inspect.getmembers(FairGeventWorker, inspect.isfunction) if name in vars(FairGeventWorker)
    }
    assert {name for name in ours if hasattr(GeventWorker, name)} == TESTS.keys()


def test_process_with_long_turns_accepts_more_at_once() -> None:
    assert [accepts_per_turn(late) for late in (0.0, 0.005, 0.1, 0.4, 60.0)] == [1, 1, 5, 20, 32]
