"""The pages that need no key and no server: `/`, which says what runs here, and `/runbook`.

Links in notifications lead to the runbook without a wiki. It holds no secret, and people read it while Postgres or
Redis is unavailable.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from flask import redirect, render_template
from markdown_it import MarkdownIt
from markupsafe import Markup

import service
from service import __version__
from service.web.response_headers import with_own_style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask import Flask
    from markdown_it.token import Token
    from werkzeug.wrappers import Response

    from service.config import Settings


def register(app: Flask, settings: Settings) -> None:
    """Add the pages; `/` leads to the console where that is on."""

    def home() -> Response:
        if settings.is_console_on:
            return redirect("/console/", 302)
        return with_own_style(render_template("home.html", version=__version__))

    def runbook() -> Response:
        return with_own_style(render_template("runbook.html", runbook=_page()))

    app.get("/")(home)
    app.get("/runbook")(runbook)


@cache
def _page() -> Markup:
    """The document as HTML. Its text is part of this release, and HTML in it is escaped all the same."""
    parser = MarkdownIt("js-default")
    tokens = parser.parse(_location().read_text(encoding="utf-8"))
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            # The rule of GitHub and of the built documents.
            token.attrSet("id", re.sub(r"[^\w\- ]", "", content.content.lower()).replace(" ", "-"))
    for token in tokens:
        if token.children:
            token.children = list(_reachable(token.children))
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - js-default escapes HTML


def _location() -> Path:
    """Inside the package where it was installed from a wheel, in `docs/` of a checkout."""
    package = Path(service.__file__).parent
    packaged = package / "runbook.md"
    return packaged if packaged.is_file() else package.parent / "docs" / "operations" / "runbook.md"


def _reachable(parts: Sequence[Token]) -> Iterator[Token]:
    """The parts of a paragraph without pictures and without links to other documents, which web does not serve."""
    kept = True
    for part in parts:
        if part.type == "link_open":
            kept = str(part.attrGet("href")).startswith(("#", "https://"))
        if part.type != "image" and (kept or part.type not in {"link_open", "link_close"}):
            yield part


def backticks(text: str) -> Markup:
    """Render a text from this code base: the parts between backquotes become `<code>`."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )
