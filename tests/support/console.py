"""The console in a test's hands, without a server around it: logins, forms, and what a page holds."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from tests.support.webhook_endpoint import client_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

OPERATOR, VIEWER = "password of the operators", "password of the viewers"
COOKIE = "headshotpro_console"


def console(folder: Path, database_url: str, redis_url: str, **settings: str) -> FlaskClient:
    """A browser that has not logged in."""
    given = {"CONSOLE_PASSWORD": OPERATOR, "CONSOLE_VIEWER_PASSWORD": VIEWER, **settings}
    return client_of(folder, DATABASE_URL=database_url, REDIS_URL=redis_url, **given)


def log_in(browser: FlaskClient, password: str = OPERATOR, **form: str) -> TestResponse:
    """Send the form of the login."""
    return browser.post("/console/login", data={"password": password, **form})


def hidden_fields(page: TestResponse) -> dict[str, str]:
    """The hidden fields of the forms of a page."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    return {name: unescape(value) for name, value in found}


def token(page: TestResponse) -> str:
    """The token of the forms of a page."""
    return hidden_fields(page)["csrf_token"]
