"""The application: settings in, a Flask app out, every error in the vendor's form. `service.web` has the factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException

from service import config, inbox, log
from service.inbox import Inbox, StaleModels
from service.queue import JobQueue
from service.storage import database
from service.web import NEEDS
from service.web.answers import error_answer
from service.web.api import routes
from service.web.door import Door
from service.web.health import Health

if TYPE_CHECKING:
    from flask import Response

    from service.config import Settings

# A delivery waits this long for Redis at most; then the vendor is told to come again.
DOOR_TIMEOUT_SECONDS = 2.0

CODES = {
    400: "INVALID_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}


def build(settings: Settings | None = None) -> Flask:
    """See `service.web.create_app`."""
    settings = settings or config.load(NEEDS)
    log.configure(settings)
    app = Flask("service.web")
    client = inbox.connect(settings.redis, timeout=DOOR_TIMEOUT_SECONDS)
    door = Door(Inbox(client), StaleModels(client), JobQueue(client), settings)
    health = Health(client, database.connect(settings.postgres_url, pool_size=1))
    app.post("/webhooks/headshotpro")(door.receive)
    app.get("/livez")(health.livez)
    app.get("/readyz")(health.readyz)
    for blueprint in routes.blueprints(settings):
        app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _http_error)
    return app


def _http_error(error: HTTPException) -> tuple[Response, int]:
    status = error.code or 500
    answer, _ = error_answer(status, CODES.get(status, "ERROR"), error.description or error.name)
    # Headers that belong to the status, such as Allow on a 405.
    answer.headers.extend((name, value) for name, value in error.get_headers() if name.lower() == "allow")
    return answer, status
