"""The one client of the upstream in a web process: for calls of the API, and for acts in the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.api.writes import UpstreamWriter
from service.broker.client import connect_redis
from service.broker.counters import Counters
from service.broker.jobs import JobQueue
from service.broker.stale_models import StaleModels
from service.runtime import RequestCounter
from service.storage import database
from service.upstream.client import UpstreamClient
from service.upstream.sending import RequestObservers

if TYPE_CHECKING:
    from service.config import Settings

POOL_TIMEOUT_SECONDS = 2.0
REDIS_TIMEOUT_SECONDS = 2.0


def upstream_writer(settings: Settings) -> UpstreamWriter | None:
    """The writer of creates, deletes and fresh reads; None without an API key. Nothing is connected yet."""
    if settings.headshotpro_api_key is None:
        return None
    redis = connect_redis(settings.redis, timeout=REDIS_TIMEOUT_SECONDS)
    request_counter = RequestCounter(Counters(redis))
    # Workers read the upstream all the time, and store whether it accepts the key and how far its clock is off. A call
    # of the API must not wait for Postgres to store that again.
    observers = RequestObservers(request=request_counter.observe, wait=request_counter.observe_wait)
    client = UpstreamClient.from_settings(settings, redis, observers=observers)
    engine = database.connect(settings.postgres_url, pool_size=2, overflow=2, pool_timeout=POOL_TIMEOUT_SECONDS)
    return UpstreamWriter(engine, client, JobQueue(redis), StaleModels(redis))
