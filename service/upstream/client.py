"""The vendor's API: five calls that wait for their turn, try again where that is safe, and say when an answer was true.

Each try spends one request of the budget. What a call can raise: `KeyRejected`, `ModelNotFound`, `UpstreamRejected`,
`UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamFailed`, `UpstreamGarbled`, `Throttled`, what `pause` raises, and
`InboxUnavailable` when the budget's Redis is gone. Nothing else, and no message holds a key, a link or an address.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET

from service.errors import UpstreamGarbled, UpstreamRejected
from service.upstream.fields import may_name_a_model
from service.upstream.headers import interval
from service.upstream.json_text import REPLACEMENT
from service.upstream.payloads import (
    CreatedModel,
    DeletedModel,
    DetailedModel,
    ModelPage,
    Organization,
)
from service.upstream.records import Readable, read_organization, read_page, read_single
from service.upstream.responses import Answer, decoder_of, reader, refusal_code, require_success
from service.upstream.sending import Call, Observers, Sender, ignored
from service.upstream.transport import Request, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from service.upstream.budget import Budget, Priority
    from service.upstream.transport import Reply

T = TypeVar("T")

_MODELS = "/organization/models"
_MODEL = "/organization/models/:modelId"

_read_page = reader(read_page)
_read_model = reader(read_single)
_read_created = reader(decoder_of(CreatedModel))
_read_deleted = reader(decoder_of(DeletedModel))
_read_organization = reader(read_organization)


class UpstreamClient:
    """One organization's access to the vendor. Safe to share between threads; not between processes.

    Every call takes a `priority` in the budget and a `patience`: seconds that waiting for the budget, for a 429's reset
    and for the next try may take together. None waits for budget and reset as long as it takes. Faults of the network
    and 5xx are tried four times at most, after the vendor's `Retry-After`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        budget: Budget | None,
        *,
        pause: Callable[[float], None] = time.sleep,
        connect_timeout: float = 5.0,
        response_timeout: float = 20.0,
        proxy: str | None = None,
        observe: Callable[[str, int | str, float], None] = ignored,
        observe_wait: Callable[[Priority, float], None] = ignored,
        observe_clock: Callable[[timedelta | None], None] = ignored,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            base_url: the API's base, with `/api/v2`.
            api_key: the organization's bearer key.
            budget: shared with all our processes; None where there is no Redis, then only 429s hold requests back.
            pause: waits a number of seconds; may raise `Stopping`.
            connect_timeout: seconds.
            response_timeout: seconds until the whole response must be there, name resolution and connection included.
            proxy: URL of the proxy to go through; None connects directly.
            observe: told of each try: its route, its status (`unreachable` where there was no answer), its seconds.
            observe_wait: told of each time that the budget was spent: what the request was for, how many seconds it
                waited (none where it was given up).
            observe_clock: called with each response: how far the vendor's clock is ahead of ours, None where it sent no
                `Date`.
        """
        self._wire = Wire(
            base_url, api_key, connect_timeout=connect_timeout, response_timeout=response_timeout, proxy=proxy
        )
        self._send = Sender(self._wire, budget, pause, Observers(observe, observe_wait, observe_clock)).send

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
        answer = self._send(Call(request, _read_page, _read_page), priority, patience)
        return _with_body(answer, answer.body.body)

    def get_model(self, model_id: str, *, priority: Priority, patience: float | None = None) -> Answer[DetailedModel]:
        """One model with its photo count and favourite.

        Raises:
            ModelNotFound: 404 with the vendor's code, with the times between which that was true.
            UpstreamGarbled: it is another model than the one that was asked for.
        """
        request = Request("GET", _MODEL, _path_of(model_id), about_model=True)
        answer = self._send(Call(request, _read_model, _read_model), priority, patience)
        if answer.body.body.model.id != model_id:
            raise _another_model(request)
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
        answer = self._send(Call(request, _read_created, _read_created, repeatable=False), priority, patience)
        _require_usable_id(request, answer.body.model_id)
        return answer

    def delete_model(self, model_id: str, *, priority: Priority, patience: float | None = None) -> Answer[DeletedModel]:
        """Delete a model for good; it is gone as of `answered_at`.

        A success without a body (204) has deleted it. Where a try after a fault gets `ALREADY_DELETED`, the first
        one has deleted it, and the call is done. A 404 does not prove that: the caller gets `ModelNotFound` and may
        look.

        Raises:
            ModelNotFound: 404 with the vendor's code.
            UpstreamGarbled: it says that it deleted another model.
        """
        deleted = DeletedModel(model_id=model_id)

        def read_first(reply: Reply) -> Answer[DeletedModel]:
            says_so = require_success(reply)
            # 202 only promises.
            if reply.status != 202 and not reply.body.strip():
                return Answer(deleted, *interval(reply))
            answer = _read_deleted(reply)
            named = answer.body.model_id
            if named != model_id and not (says_so and named in (UNSET, None)):
                raise _another_model(reply.request)
            return replace(answer, body=deleted)

        def read_again(reply: Reply) -> Answer[DeletedModel]:
            if reply.status in (200, 400) and refusal_code(reply) == "ALREADY_DELETED":
                return Answer(deleted, *interval(reply))
            return read_first(reply)

        request = Request("DELETE", _MODEL, _path_of(model_id), about_model=True)
        return self._send(Call(request, read_first, read_again), priority, patience)

    def organization(self, *, priority: Priority, patience: float | None = None) -> Answer[Organization]:
        """The organization that the key belongs to."""
        request = Request("GET", "/organization", "/organization")
        answer = self._send(Call(request, _read_organization, _read_organization), priority, patience)
        return _with_body(answer, answer.body.body.found)


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


def _another_model(request: Request) -> UpstreamGarbled:
    """The error for a response that, merged, would overwrite somebody's data."""
    return UpstreamGarbled(f"{request}: the response is about another model than the one that was asked for")


def _require_usable_id(request: Request, model_id: str) -> None:
    """Refuse an id of a new model by which it could not be read.

    Raises:
        UpstreamGarbled: it is none.
    """
    if not model_id.isprintable() or " " in model_id or REPLACEMENT in model_id or not may_name_a_model(model_id):
        raise UpstreamGarbled(f"{request}: `modelId` is no id of a model")
