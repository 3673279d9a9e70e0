"""`up` explains a wrong URL or key at its start."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from service.config import load
from service.local.screen import Screen
from service.local.system import LocalSystem

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer


def what_up_prints(httpserver: HTTPServer) -> list[str]:
    url = httpserver.url_for("").rstrip("/")
    settings = load(environ={"HEADSHOTPRO_API_URL": url, "HEADSHOTPRO_API_KEY": "key-of-the-tests"})
    out = io.StringIO()
    LocalSystem(settings, Screen(out), ExitStack())._try_upstream()
    return out.getvalue().splitlines()


def test_url_without_its_path_is_explained(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/organization").respond_with_data("nothing here", status=404)
    seen, advice = what_up_prints(httpserver)
    assert seen.startswith("upstream: GET /organization: the vendor sent 404")
    assert advice.startswith("  → did you forget /api/v2?")


def test_right_settings_print_nothing(httpserver: HTTPServer) -> None:
    body = {"success": True, "organization": {"uid": "org_1", "name": "Initech Ltd", "teams": []}}
    httpserver.expect_request("/organization").respond_with_data(json.dumps(body), content_type="application/json")
    assert what_up_prints(httpserver) == []
