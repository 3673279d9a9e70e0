"""`up` explains a wrong URL or key at its start."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from service.config import load
from service.local.screen import Screen
from service.local.system import LocalSystem, try_vendor
from tests.support.processes import eventually

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer


def settings_of(httpserver: HTTPServer) -> dict[str, str]:
    return {"HEADSHOTPRO_API_URL": httpserver.url_for("").rstrip("/"), "HEADSHOTPRO_API_KEY": "key-of-the-tests"}


def problems(httpserver: HTTPServer) -> list[str]:
    found: SimpleQueue[str] = SimpleQueue()
    try_vendor(load(environ=settings_of(httpserver)), found)
    return [found.get() for _ in range(found.qsize())]


def test_url_without_its_path_is_explained(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/organization").respond_with_data("nothing here", status=404)
    problem, advice = problems(httpserver)
    assert problem.startswith("upstream: GET /organization: the vendor sent 404")
    assert advice.startswith("  → did you forget /api/v2?")


def test_right_settings_print_nothing(httpserver: HTTPServer) -> None:
    body = {"success": True, "organization": {"uid": "org_1", "name": "Initech Ltd", "teams": []}}
    httpserver.expect_request("/organization").respond_with_data(json.dumps(body), content_type="application/json")
    assert problems(httpserver) == []


def test_up_does_not_wait_for_the_vendor(httpserver: HTTPServer) -> None:
    went_on = Event()
    released: list[bool] = []

    def respond(_request: object) -> Response:
        released.append(went_on.wait(5))
        return Response(status=404)

    httpserver.expect_request("/organization").respond_with_handler(respond)
    system = LocalSystem(load(environ=settings_of(httpserver)), Screen(io.StringIO()), ExitStack())
    system._choose_web_port()
    system._use_real_vendor()
    went_on.set()
    assert eventually(lambda: released == [True])
