"""The OpenAPI document and its page: made of the code's own types, and whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.webhook_endpoint import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient


@pytest.fixture
def web(folder: Path) -> FlaskClient:
    return client_of(folder)


def test_the_document_names_every_call_and_resolves(web: FlaskClient) -> None:
    answer = web.get("/api/openapi.json")
    assert answer.mimetype == "application/json"
    document = answer.json
    assert document is not None
    assert document["openapi"].startswith("3.1")
    calls = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert calls == {
        (rule_method.lower(), re.sub(r"<(\w+)>", "{modelId}", rule.rule).removeprefix("/api/v2"))
        for rule in web.application.url_map.iter_rules()
        for rule_method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/v2")
    }
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', answer.text))
    assert referred <= set(document["components"]["schemas"])
    names = [parameter["name"] for parameter in document["paths"]["/organization/models"]["get"]["parameters"]]
    assert names[:4] == ["limit", "offset", "status", "teamId"]


def test_docs_page_lists_every_call_and_loads_nothing_external(web: FlaskClient) -> None:
    page = web.get("/api/docs")
    assert page.mimetype == "text/html"
    document = web.get("/api/openapi.json").json
    assert document is not None
    for methods in document["paths"].values():
        for call in methods.values():
            assert call["summary"] in page.text
            assert all(parameter["name"] in page.text for parameter in call.get("parameters", []))
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    assert "<script" not in page.text
