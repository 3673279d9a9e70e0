"""`up` explains a wrong URL or key at its start."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from service.config import load
from service.local.vendor_check import VendorCheck
from tests.support.processes import eventually

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer


def settings_of(httpserver: HTTPServer) -> dict[str, str]:
    return {"HEADSHOTPRO_API_URL": httpserver.url_for("").rstrip("/"), "HEADSHOTPRO_API_KEY": "key-of-the-tests"}


def test_url_without_its_path_is_explained(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/organization").respond_with_data("nothing here", status=404)
    check = VendorCheck(load(environ=settings_of(httpserver)))
    found: list[str] = []
    assert eventually(lambda: found.extend(check.problems()) or len(found) == 2, 30)
    assert found[0].startswith("upstream: GET /organization: the vendor sent 404")
    assert found[1].startswith("  → did you forget /api/v2?")


def test_right_settings_print_nothing(httpserver: HTTPServer) -> None:
    body = {"success": True, "organization": {"uid": "org_1", "name": "Initech Ltd", "teams": []}}
    httpserver.expect_request("/organization").respond_with_data(json.dumps(body), content_type="application/json")
    check = VendorCheck(load(environ=settings_of(httpserver)))
    assert eventually(lambda: "vendor-check" not in {thread.name for thread in threading.enumerate()}, 30)
    assert check.problems() == []
