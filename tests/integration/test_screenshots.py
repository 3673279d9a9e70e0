"""The pictures of the documents that show pages, in the browser that the tests use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from docs import screenshots
from tests.support.browser import CHROMIUM, serving
from tests.support.console import console

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@CHROMIUM
def test_picture_of_a_page_is_made_by_any_of_the_browsers(
    folder: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screenshots, "IMAGES", folder)
    terminal: Any = SimpleNamespace(read=lambda _seconds: "")
    with serving(console(folder, database_url, redis_url).application) as url:
        page = screenshots.Page("login", "/console/login")
        screenshots.save_pages([page], {"PORT": url.rpartition(":")[2]}, terminal)
    assert (folder / "login.png").read_bytes().startswith(b"\x89PNG")
