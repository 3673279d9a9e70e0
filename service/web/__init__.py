"""The Flask application: the webhook endpoint, health, and the API.

`service.web:create_app()` is the WSGI factory. It imports late: gevent has to patch the standard library before Flask
and the clients of our servers are loaded (`start`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from service.config import Settings

# Without a webhook secret the webhook endpoint is closed, and the rest goes on.
REQUIRED_SETTINGS = ("DATABASE_URL", "REDIS_URL")


def create_app(settings: Settings | None = None) -> Flask:
    """The web process's application; its settings come from the environment where none are given.

    Raises:
        SettingsError: a setting is missing or malformed.
    """
    # Why it is late: see the top.
    from service.web.app import build  # noqa: PLC0415

    return build(settings)
