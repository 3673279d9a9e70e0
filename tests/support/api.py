"""Our own API in a test's hands: over a mirror that the test drives, with a key that may write and one that may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from service.web import create_app

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from tests.support.mirror import Mirror

MODELS = "/api/v2/organization/models"
KEY, READ_KEY = "key-of-ours", "key-that-reads"
KEYS = f"{KEY},ro:{READ_KEY}"


class Api:
    """A client of the application, without a server around it."""

    def __init__(self, app: FlaskClient) -> None:
        self.app = app

    @classmethod
    def of(cls, mirror: Mirror, **changes: Any) -> Api:
        """The API of a mirror's deployment, with some settings changed."""
        settings = msgspec.structs.replace(mirror.settings, **{"mirror_api_keys": KEYS, **changes})
        return cls(create_app(settings).test_client())

    def call(
        self, method: str, path: str = "", body: object = None, *, key: str | None = KEY, **headers: str
    ) -> TestResponse:
        """A call by its path below that of the models; `Some_Header=…` sets a header."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        return self.app.open(MODELS + path, method=method, data=data, headers=sent)

    def get(self, path: str = "", **headers: str) -> Any:
        """The document of a GET that succeeds."""
        answer = self.call("GET", path, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json

    def ids(self, query: str) -> list[str]:
        """The ids that a list shows."""
        return [model["id"] for model in self.get(query)["models"]]
