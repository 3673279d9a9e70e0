"""The vendor's API: five calls that wait for their turn, try again where that is safe, and say when an answer was true.

Each try spends one request of the budget. What a call can raise: `KeyRejected`, `ModelNotFound`, `UpstreamRejected`,
`UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamFailed`, `UpstreamGarbled`, `Throttled`, what `pause` raises, and
`InboxUnavailable` when the budget's Redis is gone. Nothing else, and no message holds a key, a link or an address.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from service.errors import InboxUnavailable, UpstreamRejected
from service.upstream.answers import Answer, Limited, decoder_of, reader, refusal_code
from service.upstream.effort import Effort
from service.upstream.headers import interval, rate
from service.upstream.payloads import (
    CreatedModel,
    DeletedModel,
    DetailedModel,
    ModelPage,
    Organization,
)
from service.upstream.records import Readable, read_organization, read_page, read_single
from service.upstream.wire import Fault, Request, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from service.upstream.budget import Budget, Priority
    from service.upstream.wire import Reply

T = TypeVar("T")

_MODELS = "/organization/models"
_MODEL = "/organization/models/:modelId"

_read_page = reader(read_page)
_read_model = reader(read_single)
_read_created = reader(decoder_of(CreatedModel))
_read_deleted = reader(decoder_of(DeletedModel))
_read_organization = reader(read_organization)


def _unobserved(route: str, status: int | str, seconds: float) -> None:
    """Stands in where nobody counts requests."""


def _wait_unobserved(priority: Priority, seconds: float) -> None:
    """Stands in where nobody counts waits."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """A request and how to read its answer.

    Attributes:
        read: reads the first answer.
        read_again: reads one that comes after a fault.
        repeatable: doing it twice is as good as once.
    """

    request: Request
    read: Callable[[Reply], Answer[T]]
    read_again: Callable[[Reply], Answer[T]]
    repeatable: bool = True


class UpstreamClient:
    """One organization's access to the vendor. Safe to share between threads; not between processes.

    Every call takes a `priority` in the budget and a `patience`: seconds that waiting for the budget, for a 429's reset
    and for the next try may take together. None waits for budget and reset as long as it takes. Faults of the network
    and 5xx are tried four times at most.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        budget: Budget | None,
        *,
        pause: Callable[[float], None] = time.sleep,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
        observe: Callable[[str, int | str, float], None] = _unobserved,
        observe_wait: Callable[[Priority, float], None] = _wait_unobserved,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            base_url: the API's base, with `/api/v2`.
            api_key: the organization's bearer key.
            budget: shared with all our processes; None where there is no Redis, then only 429s hold requests back.
            pause: waits a number of seconds; may raise `Stopping`.
            connect_timeout: seconds.
            read_timeout: seconds without a byte of an answer, and for the whole of its body.
            observe: told of each try: its route, its status (`unreachable` where there was no answer), its seconds.
            observe_wait: told of each time that the budget was spent: what the request was for, how many seconds it
                waited (none where it was given up).

        Raises:
            SettingsError: the key cannot stand in a header.
        """
        self._wire = Wire(base_url, api_key, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._budget = budget
        self._pause = pause
        self._observe = observe
        self._observe_wait = observe_wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._wire.close()

    def list_models(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        status: str | None = None,
        team_id: str | None = None,
        priority: Priority,
        patience: float | None = None,
    ) -> Answer[ModelPage]:
        """One page of the list, at most 200 models; its order is not documented."""
        given = {"limit": limit, "offset": offset, "status": status, "teamId": team_id}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        request = Request("GET", _MODELS, f"{_MODELS}?{query}")
        answer = self._send(_Call(request, _read_page, _read_page), priority, patience)
        return _with_body(answer, answer.body.body)

    def get_model(self, model_id: str, *, priority: Priority, patience: float | None = None) -> Answer[DetailedModel]:
        """One model with its photo count and favourite.

        Raises:
            ModelNotFound: 404, with the times between which that was true.
        """
        request = Request("GET", _MODEL, _path_of(model_id), about_model=True)
        answer = self._send(_Call(request, _read_model, _read_model), priority, patience)
        return _with_body(answer, answer.body.body.model)

    def create_model(
        self,
        email: str,
        team_id: str | None = None,
        is_development: bool | None = None,
        *,
        priority: Priority,
        patience: float | None = None,
    ) -> Answer[CreatedModel]:
        """Make a model and its anonymous user (whitelabel organizations only).

        A fault after which the vendor may have made it is not tried again: the second try would say that the user
        exists, and hide the new model's id.
        """
        given = {"email": email, "teamId": team_id, "isDevelopment": is_development}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        request = Request("POST", _MODELS, _MODELS, body)
        return self._send(_Call(request, _read_created, _read_created, repeatable=False), priority, patience)

    def delete_model(self, model_id: str, *, priority: Priority, patience: float | None = None) -> Answer[DeletedModel]:
        """Delete a model for good; it is gone as of `answered_at`.

        A try after a fault that is told `ALREADY_DELETED` has found what the first one did, and counts as done. One
        that is told 404 does not: a 404 alone is no proof of death, so the caller gets `ModelNotFound` and may look.

        Raises:
            ModelNotFound: 404.
        """

        def read_again(reply: Reply) -> Answer[DeletedModel]:
            if reply.status == 400 and refusal_code(reply) == "ALREADY_DELETED":
                return Answer(DeletedModel(model_id=model_id), *interval(reply))
            return _read_deleted(reply)

        request = Request("DELETE", _MODEL, _path_of(model_id), about_model=True)
        return self._send(_Call(request, _read_deleted, read_again), priority, patience)

    def organization(self, *, priority: Priority, patience: float | None = None) -> Answer[Organization]:
        """The organization that the key belongs to."""
        request = Request("GET", "/organization", "/organization")
        answer = self._send(_Call(request, _read_organization, _read_organization), priority, patience)
        return _with_body(answer, answer.body.body.found)

    def _send(self, call: _Call[T], priority: Priority, patience: float | None) -> Answer[T]:
        """Try until there is an answer: wait for a turn, send, then read, wait or give up."""
        effort = Effort(patience, self._pause)
        while True:
            self._await_turn(priority, effort)
            try:
                reply = self._exchange(call.request)
                return (call.read_again if effort.faults else call.read)(reply)
            except Limited as limited:
                self._hold(effort, effort.after_limited(limited.seconds))
            except Fault as fault:
                if fault.may_have_arrived and not call.repeatable:
                    raise fault.error from None
                effort.back_off(fault.error)

    def _await_turn(self, priority: Priority, effort: Effort) -> None:
        while self._budget is not None and (seconds := self._budget.acquire(priority)) > 0:
            before = time.monotonic()
            try:
                effort.nap(seconds)
            finally:
                self._observe_wait(priority, time.monotonic() - before)

    def _hold(self, effort: Effort, seconds: float) -> None:
        """After a 429: with a budget all processes wait together, at their next turn."""
        if self._budget is None:
            effort.wait(seconds)
        else:
            self._budget.block(time.time() + seconds)

    def _exchange(self, request: Request) -> Reply:
        before = time.monotonic()
        try:
            reply = self._wire.exchange(request)
        except Fault:
            self._observe(str(request), "unreachable", time.monotonic() - before)
            raise
        self._observe(str(request), reply.status, reply.elapsed)
        told = rate(reply)
        if self._budget is not None and told is not None:
            # An answer that arrived is not lost because Redis is gone; the next turn will say so.
            with suppress(InboxUnavailable):
                self._budget.note(told.limit, told.remaining, told.reset_at)
        return reply


def _with_body(answer: Answer[Readable[Any]], body: T) -> Answer[T]:
    """The same answer with what callers want of its body, and what of it could not be used."""
    return Answer(body, answer.sent_at, answer.answered_at, answer.status, answer.raw, answer.body.set_aside)


def _path_of(model_id: str) -> str:
    """The path of one model.

    Raises:
        UpstreamRejected: the id is empty or only dots: that path would be another one, the whole list's perhaps.
    """
    if not model_id.strip("."):
        raise UpstreamRejected(400, "INVALID_REQUEST", "no model has an id that is empty or only dots")
    return f"{_MODELS}/{quote(model_id, safe='')}"
