"""`/`: says what runs here and where to go; the console's address where that is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import redirect, render_template

from service import __version__

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.wrappers import Response

    from service.config import Settings


def register(app: Flask, settings: Settings) -> None:
    """Add the page."""

    def home() -> Response | str:
        if settings.is_console_on:
            return redirect("/console/", 302)
        return render_template("home.html", version=__version__)

    app.get("/")(home)
