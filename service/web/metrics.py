"""`GET /metrics`: asks Redis and Postgres at each scrape, so that it is right whichever web process is asked.

A server that is gone or hangs costs its own part of the answer and three seconds, never the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flask import Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.broker import counters, durability
from service.config.api_keys import Scope
from service.errors import SchemaOutdated, Unavailable
from service.storage.database import transaction
from service.storage.deadline import Question
from service.storage.metrics_queries import Figures, figures
from service.web.exposition import FromRedis, families

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis
    from prometheus_client.core import Metric
    from sqlalchemy import Engine

    from service.upstream.budget import Budget
    from service.web.auth import Admission

T = TypeVar("T")

PATIENCE_SECONDS = 3.5


class Metrics(Collector):
    """The scraped page.

    Args:
        client: the inbox's Redis.
        engine: the mirror's Postgres.
        admission: lets requests in by their keys.
        budget: the upstream's requests.
        inbox_limit: how many events the inbox takes.
    """

    def __init__(
        self, client: redis.Redis, engine: Engine, admission: Admission, budget: Budget, inbox_limit: int
    ) -> None:
        self._client = client
        self._engine = engine
        self._admission = admission
        self._budget = budget
        self._inbox_limit = inbox_limit
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def scrape(self) -> Response:
        """Answer Prometheus in the format that it asks for."""
        refusal = self._admission.refuse(Scope.METRICS)
        if refusal is not None:
            return refusal
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(self._registry), content_type=content_type)

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks no server."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Ask both servers at the same time."""
        postgres, redis = Question(self._of_postgres), Question(self._of_redis)
        return families(_answer(redis), _answer(postgres))

    def _of_redis(self) -> FromRedis:
        return FromRedis(
            counters.read(self._client),
            self._budget.requests_left(),
            durability.room(self._client, self._inbox_limit),
        )

    def _of_postgres(self) -> Figures:
        with transaction(self._engine) as connection:
            return figures(connection)


def _answer(question: Question[T]) -> T | None:
    """What a server tells; None where it is gone, hangs, or has a schema that is too old."""
    try:
        return question.answer(PATIENCE_SECONDS)
    except (Unavailable, SchemaOutdated):
        return None
