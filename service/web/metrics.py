"""`GET /metrics`: reads Redis and Postgres at each scrape, so that any web process can be scraped.

A server that is unavailable or hangs costs its own part of the response and three seconds, never the response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flask import Response, request
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.broker import durability
from service.config.api_keys import Scope
from service.errors import SchemaOutdated, Unavailable
from service.storage.database import BackgroundCall, transaction
from service.storage.metrics_queries import MetricsData, figures
from service.web.exposition import families

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis
    from prometheus_client.core import Metric
    from sqlalchemy import Engine

    from service.broker.durability import RedisFigures
    from service.upstream.budget import RequestBudget
    from service.web.auth import ApiKeyAuth

T = TypeVar("T")

SCRAPE_TIMEOUT_SECONDS = 3.5


class MetricsEndpoint(Collector):
    """The scraped page."""

    def __init__(
        self, client: redis.Redis, engine: Engine, auth: ApiKeyAuth, budget: RequestBudget, inbox_limit: int
    ) -> None:
        self._client = client
        self._engine = engine
        self._auth = auth
        self._budget = budget
        self._inbox_limit = inbox_limit

    def scrape(self) -> Response:
        """The page in the format that Prometheus asks for.

        Raises:
            ApiError: the key may not read it.
        """
        self._auth.require(Scope.METRICS)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(self), content_type=content_type)

    def collect(self) -> Iterable[Metric]:
        """Read both servers at the same time."""
        postgres, redis = BackgroundCall(self._read_postgres), BackgroundCall(self._read_redis)
        return families(_result_or_none(redis), _result_or_none(postgres))

    def _read_redis(self) -> RedisFigures:
        return durability.read_figures(self._client, self._budget.requests_left, self._inbox_limit)

    def _read_postgres(self) -> MetricsData:
        with transaction(self._engine) as connection:
            return figures(connection)


def _result_or_none(call: BackgroundCall[T]) -> T | None:
    """The result of a server; None where it is unavailable, hangs, or has a schema that is too old."""
    try:
        return call.result(SCRAPE_TIMEOUT_SECONDS)
    except (Unavailable, SchemaOutdated):
        return None
