"""HTML out of this project's own texts, for the console and for the API's page."""

from __future__ import annotations

from markupsafe import Markup


def backticks(text: str) -> Markup:
    """Render a text from this code base: the parts between backquotes become `<code>`."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )
