"""The API's calls about subscriptions: the same as the commands, with keys that may write."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from flask import Response, request

from service.api.parameters import decode_body
from service.api.subscription_schemas import (
    RecentRequestSchema,
    ReplayBody,
    SingleSubscriptionBody,
    SubscriptionDetailBody,
    SubscriptionListBody,
    SubscriptionRemovedBody,
    SubscriptionSchema,
    SubscriptionSecretBody,
    SubscriptionTestBody,
    WaitingChangeSchema,
    from_row,
)
from service.storage import subscriptions
from service.storage.database import transaction
from service.subscriptions.commands import SubscriptionBody, SubscriptionCommands, missing, require
from service.web.api.views import caller, json_response
from service.web.request_body import check_body_headers, read_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint
    from msgspec import Struct
    from sqlalchemy import Engine

    from service.config import Settings

PREFIX = "/api/v2/subscriptions"
MAX_BODY_BYTES = 64 * 1024
SHOWN_DELIVERIES = 20
B = TypeVar("B", bound="Struct")


class SubscriptionViews:
    """The calls."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    def register(self, api: Blueprint) -> None:
        api.get(PREFIX)(self.list_subscriptions)
        api.post(PREFIX)(self.add)
        api.get(f"{PREFIX}/<name>")(self.show)
        api.delete(f"{PREFIX}/<name>")(self.remove)
        for view in (self.pause, self.resume, self.replay, self.rotate, self.test):
            api.post(f"{PREFIX}/<name>/{view.__name__}")(view)

    def list_subscriptions(self) -> Response:
        with transaction(self._engine) as connection:
            rows = subscriptions.list_rows(connection)
        return json_response(SubscriptionListBody(subscriptions=[from_row(SubscriptionSchema, row) for row in rows]))

    def show(self, name: str) -> Response:
        """One subscription, the first changes that it has not acknowledged, and its newest requests."""
        with transaction(self._engine) as connection:
            row = require(connection, _storable(name))
            deliveries = subscriptions.list_deliveries(connection, row["id"], SHOWN_DELIVERIES)
            requests = subscriptions.list_recent_requests(connection, row["id"])
        body = SubscriptionDetailBody(
            subscription=from_row(SubscriptionSchema, row),
            deliveries=[from_row(WaitingChangeSchema, one) for one in deliveries],
            recent_requests=[
                from_row(RecentRequestSchema, {**one, "at": datetime.fromisoformat(one["at"])}) for one in requests
            ],
        )
        return json_response(body)

    def add(self) -> Response:
        body = _body(SubscriptionBody)
        return self._with_secret(body.name, lambda commands: commands.add(body))

    def rotate(self, name: str) -> Response:
        return self._with_secret(name, lambda commands: commands.rotate(_storable(name)))

    def pause(self, name: str) -> Response:
        self._commands().pause(_storable(name))
        return self._after_act(name)

    def resume(self, name: str) -> Response:
        self._commands().resume(_storable(name))
        return self._after_act(name)

    def replay(self, name: str) -> Response:
        body = _body(ReplayBody, optional=True)
        self._commands().replay(_storable(name), body.since)
        return self._after_act(name)

    def test(self, name: str) -> Response:
        outcome = self._commands().send_test(_storable(name), self._settings)
        body = SubscriptionTestBody(taken=outcome.taken, status=outcome.status, error=outcome.error or None)
        return json_response(body)

    def remove(self, name: str) -> Response:
        self._commands().remove(_storable(name))
        return json_response(SubscriptionRemovedBody(message=f"Subscription {name} removed"))

    def _commands(self) -> SubscriptionCommands:
        return SubscriptionCommands(self._engine, caller())

    def _with_secret(self, name: str, act: Callable[[SubscriptionCommands], str]) -> Response:
        secret = act(self._commands())
        return json_response(SubscriptionSecretBody(subscription=self._one(name), secret=secret))

    def _after_act(self, name: str) -> Response:
        return json_response(SingleSubscriptionBody(subscription=self._one(name)))

    def _one(self, name: str) -> SubscriptionSchema:
        with transaction(self._engine) as connection:
            return from_row(SubscriptionSchema, require(connection, _storable(name)))


def _storable(name: str) -> str:
    """A name from a path; one that no subscription can have is not found.

    Raises:
        ApiError: 404.
    """
    if not name.isascii() or not name.isprintable():
        raise missing()
    return name


def _body(shape: type[B], *, optional: bool = False) -> B:
    """The JSON body of a request; one that is optional may be missing.

    Raises:
        ApiError: 400, 413 or 415.
    """
    check_body_headers(request, MAX_BODY_BYTES)
    body = read_body(request, MAX_BODY_BYTES)
    return decode_body(body or (b"{}" if optional else b""), shape)
