"""Debian's Chromium in a test's hands: pages as people with different eyes, screens and rights have them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from tests.support.console import OPERATOR, VIEWER
from tests.support.tools import found, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from playwright.sync_api import Browser, BrowserContext, Page

# Debian's shell is the same Chromium without windows, and takes a quarter of the processor time. GitHub's Ubuntu, which
# has neither, has Chrome.
PROGRAM = next(filter(found, ("chromium-headless-shell", "chromium", "google-chrome")), "chromium")
CHROMIUM = needs(PROGRAM)
# Nothing is asked for over the network but what a test opens.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


class Viewing(NamedTuple):
    """How a person looks at the console."""

    theme: Literal["light", "dark"]
    password: str
    width: int = 1280
    javascript: bool = True

    @property
    def label(self) -> str:
        """The name in a test's id."""
        role = "operator" if self.password == OPERATOR else "viewer"
        return f"{role}-{self.theme}-{self.width}{'' if self.javascript else '-without-javascript'}"


OPERATOR_IN_LIGHT = Viewing("light", OPERATOR)
OPERATOR_ON_A_PHONE = Viewing("dark", OPERATOR, width=375)
VIEWER_WITHOUT_JAVASCRIPT = Viewing("light", VIEWER, width=375, javascript=False)
# Each theme, role and width, and a browser without JavaScript, in few pages.
VIEWINGS = (OPERATOR_IN_LIGHT, Viewing("dark", VIEWER), OPERATOR_ON_A_PHONE, VIEWER_WITHOUT_JAVASCRIPT)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The application behind a real HTTP server of this process: its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found(PROGRAM), args=list(FLAGS))
        yield browser
        browser.close()


class Visitor:
    """A person who has logged in and looks at pages.

    Attributes:
        complaints: what the browser complained of since the last page: errors, dialogs, violations of the policy.
    """

    def __init__(self, browser: Browser, url: str, viewing: Viewing) -> None:
        self.context: BrowserContext = browser.new_context(
            base_url=url, color_scheme=viewing.theme, viewport={"width": viewing.width, "height": 900},
            java_script_enabled=viewing.javascript, reduced_motion="reduce",
        )  # fmt: skip
        self.viewing = viewing
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("requestfailed", self._note_failure)
        self.page.on("request", self._watch)
        self._url = url
        self._log_in()

    def _log_in(self) -> None:
        """Log in: by a request alone, which spares two pages; without JavaScript by the form."""
        if self.viewing.javascript:
            form = {"password": self.viewing.password}
            assert self.context.request.post("/console/login", form=form, max_redirects=0).status == 303
            return
        self.page.goto("/console/login")
        self.page.get_by_label("Password").fill(self.viewing.password)
        self.page.get_by_role("button", name="Log in").click()

    def open(self, path: str) -> Page:
        """Open a page, until its scripts have run."""
        self.complaints.clear()
        response = self.page.goto(path, wait_until="load")
        assert response is not None
        assert response.status == 200, (path, response.status)
        return self.page

    def _hear(self, message: Any) -> None:
        # Violations of the policy come as errors too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _refuse(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _note_failure(self, request: Any) -> None:
        # Going to the next page ends what the last one was loading.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.url}: {request.failure}")

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self._url, "data:")):
            self.complaints.append(f"a request to {request.url}")
