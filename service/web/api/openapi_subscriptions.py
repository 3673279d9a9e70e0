"""The calls about subscriptions in the OpenAPI document, and the requests that subscriptions are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.api.subscription_schemas import (
    OutgoingBatchWebhook,
    OutgoingWebhook,
    ReplayBody,
    SingleSubscriptionBody,
    SubscriptionDetailBody,
    SubscriptionListBody,
    SubscriptionRemovedBody,
    SubscriptionSecretBody,
    SubscriptionTestBody,
)
from service.subscriptions.commands import SubscriptionBody
from service.web.api.openapi_parts import content, header, operation, path_parameter

if TYPE_CHECKING:
    import msgspec

PATH = "/subscriptions"
BODIES = (
    SubscriptionListBody, SingleSubscriptionBody, SubscriptionDetailBody, SubscriptionBody, SubscriptionSecretBody,
    ReplayBody, SubscriptionTestBody, SubscriptionRemovedBody, OutgoingWebhook, OutgoingBatchWebhook,
)  # fmt: skip
_READ_ERRORS = (401, 403, 429, 503)
_ACTS: dict[str, tuple[str, type[msgspec.Struct], tuple[int, ...]]] = {
    "pause": ("Send it nothing until it is resumed", SingleSubscriptionBody, (404, 409)),
    "resume": ("Go on from its cursor, also where it is failing or disabled", SingleSubscriptionBody, (404,)),
    "replay": ("Send it changes again, as requests with new ids", SingleSubscriptionBody, (400, 404, 413, 415)),
    "rotate": ("Make a new secret; both sign for 24 hours", SubscriptionSecretBody, (404,)),
    "test": ("Send it a signed test request now", SubscriptionTestBody, (404,)),
}


def paths() -> dict[str, Any]:
    """The calls."""
    one, name = f"{PATH}/{{name}}", [path_parameter("name", "Its name.")]
    add = operation(
        "addSubscription", "Add a subscription", (SubscriptionSecretBody,), (*_READ_ERRORS, 400, 409, 413, 415),
        body=SubscriptionBody,
    )  # fmt: skip
    get = operation(
        "getSubscription", "Get one subscription", (SubscriptionDetailBody,), (*_READ_ERRORS, 404), parameters=name
    )
    remove = operation(
        "removeSubscription", "Remove a subscription", (SubscriptionRemovedBody,), (*_READ_ERRORS, 404), parameters=name
    )
    listing = operation("listSubscriptions", "List subscriptions", (SubscriptionListBody,), _READ_ERRORS)
    calls: dict[str, Any] = {PATH: {"get": listing, "post": add}, one: {"get": get, "delete": remove}}
    for act, (summary, shape, errors) in _ACTS.items():
        body = ReplayBody if act == "replay" else None
        calls[f"{one}/{act}"] = {
            "post": operation(
                f"{act}Subscription", summary, (shape,), (*_READ_ERRORS, *errors),
                parameters=name, body=body, body_required=False,
            )
        }  # fmt: skip
    return calls


def webhooks() -> dict[str, Any]:
    """The requests that a subscription is sent."""
    return {
        "change": {"post": _outgoing("change", "A change of a model", OutgoingWebhook)},
        "batch": {"post": _outgoing("batch", "Several changes, for a subscription with batches", OutgoingBatchWebhook)},
    }


def _outgoing(name: str, summary: str, shape: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "operationId": f"{name}Webhook",
        "summary": summary,
        "description": "Sent to the URL of a subscription, signed by Standard Webhooks.",
        "security": [],
        "parameters": [
            header("webhook-id", "The same on every retry.") | {"required": True},
            header("webhook-timestamp", "Unix seconds at which this try was sent.") | {"required": True},
            header("webhook-signature", "One signature for each valid secret, with blanks between them.")
            | {"required": True},
        ],
        "requestBody": {"required": True, "content": content(shape)},
        "responses": {"2XX": {"description": "It is acknowledged"}, "410": {"description": "Send nothing any more"}},
    }
