"""How `make docs` builds the site: Markdown by MyST, the theme furo, nothing from the network.

Why: `docs/decisions/0031-documents-by-sphinx.md`.
"""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "headshot-mirror"
html_title = project
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
extensions = ["myst_parser"]
# `[text](page.md#heading)` works as on the repository's pages, and a link that leads nowhere is a warning.
myst_heading_anchors = 4
highlight_language = "text"


def setup(app: Sphinx) -> None:
    """Show the lines of a Redis users file as they are."""
    app.add_lexer("acl", TextLexer)
