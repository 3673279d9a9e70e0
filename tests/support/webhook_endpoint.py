"""The web application in a test's hands: without a server around it, over a real Redis."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from service.broker.client import connect_redis
from service.broker.inbox import Delivery, Inbox
from service.config import load
from service.web import create_app
from tests.support.system import SECRET, WEBHOOK_PATH, signed

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

NOBODY = "127.0.0.1:9"


def client_of(folder: Path, **given_settings: str) -> FlaskClient:
    """A client of the application; Postgres and Redis are nowhere unless they are given."""
    environ = {
        "DATABASE_URL": f"postgresql://user:hunter2@{NOBODY}/db",
        "REDIS_URL": f"redis://:hunter2@{NOBODY}/0",
        "HEADSHOTPRO_WEBHOOK_SECRET": SECRET,
        "LOG_LEVEL": "info",
        **given_settings,
    }
    return create_app(load(environ=environ, dotenv=folder / ".env")).test_client()


def post(endpoint: FlaskClient, body: bytes, **changes: str | None) -> TestResponse:
    """A signed delivery; `X_Name=…` replaces a header, None leaves it out."""
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {name: value for name, value in {**signed(body), **changed}.items() if value is not None}
    return endpoint.post(WEBHOOK_PATH, data=body, headers=headers)


def post_chunked(endpoint: FlaskClient, body: bytes, headers: dict[str, str]) -> TestResponse:
    """A delivery without a `Content-Length`."""
    return endpoint.post(
        WEBHOOK_PATH,
        input_stream=io.BytesIO(body),
        headers={**headers, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )


def waiting(redis_url: str) -> list[Delivery]:
    """The deliveries in the inbox that no drain has read."""
    with connect_redis(redis_url) as client:
        return Inbox(client, "test").read(1000, 0)


def assert_refused(answer: TestResponse, status: int, code: str) -> None:
    """The response is an error in the common format."""
    assert (answer.status_code, answer.mimetype) == (status, "application/json")
    assert answer.json is not None
    assert set(answer.json) == {"success", "error", "code"}
    assert (answer.json["success"], answer.json["code"]) == (False, code)
    assert answer.json["error"]
