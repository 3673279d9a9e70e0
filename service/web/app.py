"""The application: settings in, a Flask app out, every error in the vendor's form. `service.web` has the factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException

from service import config, log
from service.broker import inbox
from service.broker.counters import Counters
from service.broker.inbox import Flag, Inbox, StaleModels
from service.broker.jobs import Job, JobQueue
from service.storage import database
from service.upstream.budget import Budget
from service.web import NEEDS
from service.web.api import routes
from service.web.auth import Admission, FailedKeys, Keys
from service.web.delivery_store import Keeper
from service.web.errors import CODES, error_answer
from service.web.group_commit import GroupCommit
from service.web.health import Health
from service.web.metrics import Metrics
from service.web.response_headers import protect
from service.web.webhook import Door

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask import Response

    from service.config import Settings

# With the slash that some people end a URL with, too.
PATHS = ("/webhooks/headshotpro", "/webhooks/headshotpro/")

# A delivery waits this long for Redis at most; then Postgres is to take it.
DOOR_TIMEOUT_SECONDS = 2


class _Web(Flask):
    """Flask with the door in front of it.

    Attributes:
        door: answers what is asked of its path.
    """

    door: Door

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request as WSGI has it (PEP 3333)."""
        if environ["PATH_INFO"] in PATHS:
            return self.door(environ, start_response)
        return super().wsgi_app(environ, start_response)


def build(settings: Settings | None = None) -> Flask:
    """See `service.web.create_app`."""
    settings = settings or config.load(NEEDS)
    log.configure(settings)
    app = _Web("service.web")
    # A method that nobody documents is a 405, also OPTIONS, which Flask would answer by itself; HEAD excepted.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path with two slashes is a 404: Werkzeug would redirect to the Host that the request names, over plain HTTP.
    app.url_map.merge_slashes = False
    client = inbox.connect(settings.redis, timeout=DOOR_TIMEOUT_SECONDS)
    # One that hangs keeps its connection until it answers: there are a few more than one for that.
    engine = database.connect(settings.postgres_url, connect_timeout=DOOR_TIMEOUT_SECONDS)
    waking = Flag(Job.DRAIN.flag, Job.DRAIN.flag_ms)
    keeper = Keeper(GroupCommit(Inbox(client), waking), engine, settings.inbox_limit)
    counters = Counters(client)
    app.door = Door(keeper, StaleModels(client), JobQueue(client), settings, counters)
    health = Health(client, engine, settings.inbox_limit, webhooks_open=bool(settings.webhook_secrets))
    budget = Budget(client, settings.rate_budget, settings.detail_budget)
    admission = Admission(Keys(settings.api_keys), FailedKeys(client), counters)
    metrics = Metrics(client, engine, admission, budget, settings.inbox_limit)
    app.get("/livez")(health.livez)
    app.get("/readyz")(health.readyz)
    app.get("/metrics")(metrics.scrape)
    for blueprint in routes.blueprints(settings, admission, client):
        app.register_blueprint(blueprint)
    app.register_error_handler(HTTPException, _http_error)
    app.after_request(protect)
    return app


def _http_error(error: HTTPException) -> tuple[Response, int]:
    status = error.code or 500
    answer, _ = error_answer(status, CODES.get(status, "ERROR"), error.description or error.name)
    # Headers that belong to the status, such as Allow on a 405.
    answer.headers.extend((name, value) for name, value in error.get_headers() if name.lower() == "allow")
    return answer, status
