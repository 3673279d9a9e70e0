"""An operator in the console of a mirror's deployment, without a server around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from service.web import create_app
from tests.support.console import OPERATOR, hidden_fields, log_in, token

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from tests.support.mirror import Mirror


def path_of(name: str, target: str) -> str:
    """The path of an act's page."""
    return f"/console/acts/{name}/{quote(target, safe='')}"


class Operator:
    """One person, logged in.

    Args:
        mirror: the deployment.
        **changes: settings of web that differ from the mirror's.
    """

    def __init__(self, mirror: Mirror, **changes: Any) -> None:
        settings = msgspec.structs.replace(mirror.settings, console_password=OPERATOR, **changes)
        self.browser = create_app(settings).test_client()
        log_in(self.browser)

    def open(self, path: str) -> TestResponse:
        """A page that is there."""
        page = self.browser.get(path)
        assert page.status_code == 200, page.text
        return page

    def page(self, name: str, target: str) -> TestResponse:
        """The page of an act."""
        return self.open(path_of(name, target))

    def csrf(self) -> str:
        """The token of this person's forms."""
        return token(self.open("/console/"))

    def do(self, name: str, target: str, **form: str) -> TestResponse:
        """Open an act's page, send its form, and open the page that follows."""
        page = self.page(name, target)
        sent = self.browser.post(path_of(name, target), data={**hidden_fields(page), **form})
        assert sent.status_code == 303, sent.text
        return self.open(sent.headers["Location"])
