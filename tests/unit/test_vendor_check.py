"""`up` explains a wrong URL or key at its start."""

from __future__ import annotations

import json
from queue import SimpleQueue
from typing import TYPE_CHECKING

from service.config import load
from service.local.system import try_vendor

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
