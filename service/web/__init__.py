"""The Flask application: the webhook door and health.

`service.web:create_app()` is the WSGI factory.
"""

from __future__ import annotations

from service.web.app import create_app

__all__ = ["create_app"]
