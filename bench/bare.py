"""The door's floor: a bare Flask route that reads the body and answers as the door does, and does nothing else.

Served by `gunicorn -c python:service.web.gunicorn_conf bench.bare:create_app()`: the door's server and settings.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from tests.support.system import HOOK


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)

    @app.post(HOOK)
    def _receive() -> tuple[Response, int]:
        body = request.get_data(cache=False)
        return jsonify(status="accepted", event=f"evt_{len(body)}"), 202

    @app.get("/livez")
    def _livez() -> str:
        return "ok\n"

    return app
