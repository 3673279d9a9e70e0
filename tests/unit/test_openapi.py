"""The OpenAPI document and its page: made of the code's own types, and whole."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from service.api import schemas, subscription_schemas
from service.web.api.examples import EXAMPLES
from tests.support.webhook_endpoint import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient


@pytest.fixture
def web(folder: Path) -> FlaskClient:
    return client_of(folder)


def _described(rule: str) -> str:
    """A route of Flask's as the document writes its path."""
    return rule.replace("<model_id>", "{modelId}").replace("<name>", "{name}").removeprefix("/api/v2")


def _body_type(name: str) -> Any:
    return getattr(schemas, name, None) or getattr(subscription_schemas, name)


def test_the_document_names_every_call_and_resolves(web: FlaskClient) -> None:
    answer = web.get("/api/openapi.json")
    assert answer.mimetype == "application/json"
    document = answer.json
    assert document is not None
    assert document["openapi"].startswith("3.1")
    calls = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert calls == {
        (rule_method.lower(), _described(rule.rule))
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


def test_examples_are_valid_and_call_what_the_document_names(web: FlaskClient) -> None:
    document = web.get("/api/openapi.json").json
    assert document is not None
    calls = {call["operationId"]: (method, path, call) for path, methods in document["paths"].items()
             for method, call in methods.items()}  # fmt: skip
    assert calls.keys() == EXAMPLES.keys()
    for name, example in EXAMPLES.items():
        method, path, call = calls[name]
        assert re.fullmatch(re.sub(r"\{\w+\}", r"\\w+", path), example.path.partition("?")[0])
        content = call["responses"]["200"]["content"]["application/json"]
        assert content["example"] == example.response
        schema = content["schema"].get("anyOf", [content["schema"]])[0]["$ref"].rpartition("/")[2]
        assert msgspec.to_builtins(msgspec.convert(example.response, _body_type(schema))) == example.response
        assert (example.body is not None) == ("requestBody" in call)
        assert example.curl(method, "https://mirror.example/api/v2") in html.unescape(page_of(web))


def test_success_is_required_in_every_response_body(web: FlaskClient) -> None:
    document = web.get("/api/openapi.json").json
    assert document is not None
    bodies = {name: schema for name, schema in document["components"]["schemas"].items() if name.endswith("Body")}
    assert {name for name, schema in bodies.items() if "success" not in schema["required"]} == {
        "CreateModelBody",
        "SubscriptionBody",
        "ReplayBody",
    }


def page_of(web: FlaskClient) -> str:
    return web.get("/api/docs", base_url="https://mirror.example").text


def test_docs_page_shows_the_base_url_of_its_caller(web: FlaskClient, folder: Path) -> None:
    assert page_of(web).count("https://mirror.example/api/v2") == len(EXAMPLES) + 1
    assert "http://another.example:8000/api/v2" in web.get("/api/docs", base_url="http://another.example:8000").text
    public = client_of(folder, PUBLIC_URL="https://public.example/")
    assert "https://public.example/api/v2" in page_of(public)
    assert "mirror.example" not in page_of(public)


def test_docs_page_shows_no_backtick_and_no_markup_of_a_host(web: FlaskClient) -> None:
    assert "`" not in page_of(web)
    assert "<code>updatedSince</code>" in page_of(web)
    assert "<b>" not in web.get("/api/docs", headers={"Host": "<b>bold.example"}).text
