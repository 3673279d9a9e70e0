"""The endpoint's floor: a bare Flask route that reads the body and answers as the endpoint does, and does nothing else.

Served by `gunicorn -c python:service.web.gunicorn_conf bench.bare:create_app()`: the endpoint's server and settings.
"""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from tests.support.system import WEBHOOK_PATH


def create_app() -> Flask:
    """The application."""
    app = Flask(__name__)

    @app.post(WEBHOOK_PATH)
    def _receive() -> tuple[Response, int]:
        body = request.get_data(cache=False)
        return jsonify(status="accepted", event=f"evt_{len(body)}"), 202

    @app.get("/livez")
    def _livez() -> str:
        return "ok\n"

    return app
