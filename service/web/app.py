"""The application: settings in, a Flask app out, every error in the vendor's form. `service.web` has the factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from service import config, log
from service.api.writes import UpstreamWriter
from service.broker.client import connect_redis
from service.broker.counters import Counters
from service.broker.inbox import Inbox
from service.broker.jobs import JobQueue
from service.broker.stale_models import StaleModels
from service.runtime import RequestCounter
from service.storage import database
from service.upstream.budget import RequestBudget
from service.upstream.client import UpstreamClient
from service.upstream.sending import RequestObservers
from service.web import REQUIRED_SETTINGS, compiled_templates, public_pages
from service.web.api import routes
from service.web.auth import ApiKeyAuth
from service.web.console import routes as console
from service.web.console.console import Console
from service.web.delivery_store import DeliveryStore
from service.web.errors import register_error_handlers
from service.web.group_commit import GroupCommit
from service.web.health import HealthEndpoint
from service.web.metrics import MetricsEndpoint
from service.web.response_headers import add_security_headers
from service.web.webhook import WebhookEndpoint

if TYPE_CHECKING:
    from service.config import Settings

# With the slash that some people end a URL with, too.
WEBHOOK_PATHS = ("/webhooks/headshotpro", "/webhooks/headshotpro/")

# A delivery waits this long for Redis at most; then Postgres is to take it.
DELIVERY_TIMEOUT_SECONDS = 2
# So does a call that goes to the upstream, for Redis and for a connection to Postgres.
UPSTREAM_SERVERS_TIMEOUT_SECONDS = 2.0


def build(settings: Settings | None = None) -> Flask:
    """See `service.web.create_app`."""
    settings = settings or config.load(REQUIRED_SETTINGS)
    log.configure(settings)
    app = Flask("service.web")
    app.jinja_options = compiled_templates.OPTIONS
    # A method that is not documented is a 405, also OPTIONS, to which Flask would respond by itself; HEAD excepted.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path with two slashes is a 404: Werkzeug would redirect to the Host that the request names, over plain HTTP.
    app.url_map.merge_slashes = False
    client = connect_redis(settings.redis, timeout=DELIVERY_TIMEOUT_SECONDS)
    # A Postgres that hangs keeps connections busy until it responds: the pool has a few for that.
    engine = database.connect(settings.postgres_url, connect_timeout=DELIVERY_TIMEOUT_SECONDS)
    delivery_store = DeliveryStore(GroupCommit(Inbox(client)), engine, settings.inbox_limit)
    counters = Counters(client)
    webhooks = WebhookEndpoint(delivery_store, StaleModels(client), JobQueue(client), settings, counters)
    health = HealthEndpoint(client, engine, settings.inbox_limit, webhooks_open=bool(settings.webhook_secrets))
    budget = RequestBudget(client, settings.rate_budget, settings.detail_budget)
    auth = ApiKeyAuth(settings.api_keys, client, counters)
    metrics = MetricsEndpoint(client, engine, auth, budget, settings.inbox_limit)
    for path in WEBHOOK_PATHS:
        app.post(path)(webhooks.receive)
    app.get("/livez")(health.livez)
    app.get("/readyz")(health.readyz)
    app.get("/metrics")(metrics.scrape)
    writer = _upstream_writer(settings)
    for blueprint in routes.blueprints(settings, auth, client, writer):
        app.register_blueprint(blueprint)
    public_pages.register(app, settings)
    if settings.is_console_on:
        console.register(app, Console(settings, writer, JobQueue(client), budget))
    register_error_handlers(app)
    app.after_request(add_security_headers)
    return app


def _upstream_writer(settings: Settings) -> UpstreamWriter | None:
    """The one client of the upstream, for calls of the API and acts in the console; None without an API key."""
    if settings.headshotpro_api_key is None:
        return None
    redis = connect_redis(settings.redis, timeout=UPSTREAM_SERVERS_TIMEOUT_SECONDS)
    request_counter = RequestCounter(Counters(redis))
    # Workers read the upstream all the time, and store whether it accepts the key and how far its clock is off. A call
    # of the API must not wait for Postgres to store that again.
    observers = RequestObservers(request=request_counter.observe, wait=request_counter.observe_wait)
    client = UpstreamClient.from_settings(settings, redis, observers=observers)
    engine = database.connect(
        settings.postgres_url, pool_size=2, overflow=2, pool_timeout=UPSTREAM_SERVERS_TIMEOUT_SECONDS
    )
    return UpstreamWriter(engine, client, JobQueue(redis), StaleModels(redis))
