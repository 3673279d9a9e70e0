"""The vendor's API: five calls that wait for their turn, retry where that is safe, and return when a response was true.

Each try spends one request of the budget. A call can raise: `KeyRejected`, `ModelNotFound`, `UpstreamRejected`,
`UpstreamUnreachable`, `UpstreamTimeout`, `UpstreamFailed`, `UpstreamMalformed`, `Throttled`, what `pause` raises, and
`RedisUnavailable` when the budget's Redis is unavailable. Nothing else, and no message holds a key, link or address.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET

from service.errors import ResponseTooLarge, UpstreamMalformed, UpstreamRejected
from service.upstream.budget import RequestBudget
from service.upstream.fields import is_valid_model_id
from service.upstream.headers import response_interval
from service.upstream.json_text import REPLACEMENT
from service.upstream.payloads import (
    CreatedModel,
    DeletedModel,
    DetailedModel,
    ModelPage,
    Organization,
)
from service.upstream.records import read_created, read_organization, read_page, read_single, successful_page
from service.upstream.responses import (
    UpstreamResponse,
    body_decoder,
    read,
    require_success,
    vendor_error_code,
)
from service.upstream.sending import NO_OBSERVERS, RequestObservers, RequestSender
from service.upstream.transport import UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    import redis

    from service.config import Settings
    from service.upstream.budget import Priority
    from service.upstream.transport import TransportResponse

# Below the lease of a pull, so that a slow response does not cost it.
RESPONSE_TIMEOUT_SECONDS = 10.0
# The vendor's limit; and more than two overlaps of a walk, else pages would not join.
LONGEST_PAGE, SHORTEST_PAGE = 200, 25

_MODELS = "/organization/models"
MODEL_ROUTE = "/organization/models/:modelId"


def _read_page(response: TransportResponse) -> UpstreamResponse[ModelPage]:
    page = successful_page(response.body) if 200 <= response.status <= 299 else None
    if page is None:
        return _read_any_page(response)
    return UpstreamResponse(page, *response_interval(response), response.status, response.body)


_read_any_page = partial(read, decode_body=read_page)
_read_model = partial(read, decode_body=read_single)
_read_created = partial(read, decode_body=read_created)
_read_deleted = partial(read, decode_body=body_decoder(DeletedModel))
_read_organization = partial(read, decode_body=read_organization)


class UpstreamClient(RequestSender):
    """One organization's access to the vendor. Safe to share between threads; not between processes.

    Every call takes a `priority` in the budget and a `max_wait`: seconds that waiting for the budget, for a 429's reset
    and for the next try may take together. None waits for budget and reset as long as it takes. Faults of the network
    and 5xx are tried four times at most, after the vendor's `Retry-After`.
    """

    # How many models of a page one response could hold so far.
    _longest_page = LONGEST_PAGE

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        redis: redis.Redis | None,
        *,
        pause: Callable[[float], None] = time.sleep,
        observers: RequestObservers = NO_OBSERVERS,
    ) -> Self:
        """The client of a process, with a budget in `redis` where that is given; the others as in the constructor.

        Raises:
            SettingsError: the API key is missing.
        """
        return cls(
            settings.headshotpro_api_url,
            settings.api_key,
            None
            if redis is None
            else RequestBudget(redis, settings.rate_budget, settings.detail_budget, settings.accuracy_budget),
            pause=pause,
            response_timeout=RESPONSE_TIMEOUT_SECONDS,
            proxy=settings.proxy_for(settings.headshotpro_api_url),
            observers=observers,
        )

    def list_models(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        status: str | None = None,
        team_id: str | None = None,
        priority: Priority,
        max_wait: float | None = None,
        expected: int = 1,
    ) -> UpstreamResponse[ModelPage]:
        """One page of the list, at most 200 models; its order is not documented.

        Where a page is too large for one response, it is shorter, and so are the next ones. A page at offset 0 begins
        at full length again: where every page is too large, that costs each walk three more requests of the budget. A
        reader of the whole list names how many pages it `expected`: a long reading is spread over the limit.

        Raises:
            ResponseTooLarge: even the shortest page is too large.
        """
        if offset == 0:
            self._longest_page = LONGEST_PAGE
        limit = min(limit, self._longest_page)
        while True:
            given = {"limit": limit, "offset": offset, "status": status, "teamId": team_id}
            query = urlencode({name: value for name, value in given.items() if value is not None})
            request = UpstreamRequest("GET", _MODELS, f"{_MODELS}?{query}")
            try:
                return self.send(request, _read_page, priority, max_wait, expected=expected)
            except ResponseTooLarge:
                if limit <= SHORTEST_PAGE:
                    raise
                limit = self._longest_page = max(SHORTEST_PAGE, limit // 2)

    def get_model(
        self, model_id: str, *, priority: Priority, max_wait: float | None = None
    ) -> UpstreamResponse[DetailedModel]:
        """One model with its photo count and favourite.

        Raises:
            ModelNotFound: 404 with the vendor's code, with the times between which that was true.
            UpstreamMalformed: it is another model than the one that was requested.
        """
        request = UpstreamRequest("GET", MODEL_ROUTE, _path_of(model_id), about_model=True)
        response = self.send(request, _read_model, priority, max_wait)
        if response.body.id != model_id:
            raise _another_model(request)
        return response

    def create_model(
        self,
        email: str,
        team_id: str | None = None,
        is_development: bool | None = None,
        *,
        priority: Priority,
        max_wait: float | None = None,
    ) -> UpstreamResponse[CreatedModel]:
        """Make a model and its anonymous user (whitelabel organizations only).

        A fault after which the vendor may have made it is not tried again: the second try would say that the user
        exists, and hide the new model's id.
        """
        given = {"email": email, "teamId": team_id, "isDevelopment": is_development}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        request = UpstreamRequest("POST", _MODELS, _MODELS, body)
        response = self.send(request, _read_created, priority, max_wait)
        made = response.body.model_id
        # By another one the model could not be read.
        if not made.isprintable() or " " in made or REPLACEMENT in made or not is_valid_model_id(made):
            raise UpstreamMalformed(f"{request}: `modelId` is no id of a model")
        return response

    def delete_model(
        self, model_id: str, *, priority: Priority, max_wait: float | None = None
    ) -> UpstreamResponse[DeletedModel]:
        """Delete a model for good; it is deleted as of `received_at`.

        A success without a body (204) has deleted it. Where a try after a fault gets `ALREADY_DELETED`, the first
        one has deleted it, and the call is done. A 404 does not prove that: the caller gets `ModelNotFound` and may
        read the model.

        Raises:
            ModelNotFound: 404 with the vendor's code.
            UpstreamMalformed: the response names another model.
        """
        deleted = DeletedModel(model_id=model_id)

        def read_first(raw_response: TransportResponse) -> UpstreamResponse[DeletedModel]:
            says_so = require_success(raw_response)
            # 202 only promises.
            if raw_response.status != 202 and not raw_response.body.strip():
                return UpstreamResponse(deleted, *response_interval(raw_response))
            response = _read_deleted(raw_response)
            named = response.body.model_id
            if named != model_id and not (says_so and named in (UNSET, None)):
                raise _another_model(raw_response.request)
            return replace(response, body=deleted)

        def read_again(raw_response: TransportResponse) -> UpstreamResponse[DeletedModel]:
            if raw_response.status in (200, 400) and vendor_error_code(raw_response) == "ALREADY_DELETED":
                return UpstreamResponse(deleted, *response_interval(raw_response))
            return read_first(raw_response)

        request = UpstreamRequest("DELETE", MODEL_ROUTE, _path_of(model_id), about_model=True)
        return self.send(request, read_first, priority, max_wait, read_again=read_again)

    def organization(self, *, priority: Priority, max_wait: float | None = None) -> UpstreamResponse[Organization]:
        """The organization that the key belongs to."""
        request = UpstreamRequest("GET", "/organization", "/organization")
        return self.send(request, _read_organization, priority, max_wait)


def _path_of(model_id: str) -> str:
    """The path of one model.

    Raises:
        UpstreamRejected: the id is empty or only dots: that path would be another one, the whole list's perhaps.
    """
    if not model_id.strip("."):
        raise UpstreamRejected(400, "INVALID_REQUEST", "no model has an id that is empty or only dots")
    return f"{_MODELS}/{quote(model_id, safe='')}"


def _another_model(request: UpstreamRequest) -> UpstreamMalformed:
    """The error for a response that, merged, would overwrite another person's data."""
    return UpstreamMalformed(f"{request}: the response is about another model than the one that was requested")
