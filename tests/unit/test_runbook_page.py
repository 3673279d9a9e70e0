"""`/runbook`: links of notifications lead to a section of it."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from service.alerts.kinds import KINDS
from service.alerts.links import Links
from service.config import load
from service.web import public_pages


@pytest.fixture(scope="module")
def page() -> str:
    app = Flask("service.web")
    public_pages.register(app, load(environ={}))
    return app.test_client().get("/runbook").text


def test_every_alert_of_a_notification_links_to_its_section(page: str) -> None:
    links = Links.from_settings(load(environ={"PUBLIC_URL": "https://mirror.example/"}))
    anchors = set(re.findall(r' id="([^"]+)"', page))
    for kind in KINDS:
        address, _, anchor = links.section(kind).partition("#")
        assert (address, anchor in anchors) == ("https://mirror.example/runbook", True), kind


def test_page_has_only_links_that_work(page: str) -> None:
    anchors = set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert {link for link in links if not link.startswith("https://")} <= {f"#{anchor}" for anchor in anchors}
    # The text of a link to another document stays.
    assert "See upgrading, with a section for a" in page


def test_runbook_url_comes_before_the_page() -> None:
    given = {"PUBLIC_URL": "https://mirror.example", "RUNBOOK_URL": "https://wiki.example/runbook"}
    assert (
        Links.from_settings(load(environ=given)).section("model_failed") == "https://wiki.example/runbook#model_failed"
    )
    assert Links.from_settings(load(environ={})).section("model_failed") == "docs/operations/runbook.md#model_failed"
