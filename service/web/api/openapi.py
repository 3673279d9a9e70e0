"""The API described: OpenAPI 3.1 out of the types that the code itself uses, and a page of it for people."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
from flask import Blueprint, Response, render_template, request
from markupsafe import escape

from service import __version__
from service.api.schemas import (
    CreatedBody,
    CreateModelBody,
    DeletedBody,
    ErrorBody,
    ListQuery,
    ModelFeedBody,
    ModelListBody,
    OrganizationBody,
    SingleModelBody,
    SingleQuery,
)
from service.web.api import openapi_subscriptions
from service.web.api.examples import EXAMPLES
from service.web.api.openapi_parts import REFERENCE, UPSTREAM_STATUSES, header, operation, parameters, path_parameter
from service.web.public_pages import backticks
from service.web.response_headers import with_own_style

INTRODUCTION = (
    "The vendor's own calls, answered from the mirror: reads of models spend none of its requests. Every parameter, "
    "body, error and shape is the vendor's; its clients ignore everything beyond that. The calls about subscriptions "
    "are not the vendor's."
)

# Stands in the page, which is made once, for the address of each caller.
PLACEHOLDER = "https://base-url.invalid"


class OpenApiEndpoint:
    """The document, made once, and the page; without a public URL it has the address of each request."""

    def __init__(self, public_url: str | None = None) -> None:
        self._public_url = public_url

    def blueprint(self) -> Blueprint:
        """`/api/openapi.json` and `/api/docs`: they contain no secret, so they need no key."""
        routes = Blueprint("description", __name__, template_folder="templates")
        routes.get("/api/openapi.json")(self.openapi)
        routes.get("/api/docs")(self.page)
        return routes

    def openapi(self) -> Response:
        """Respond with the OpenAPI document."""
        return Response(msgspec.json.encode(self.document), content_type="application/json; charset=utf-8")

    def page(self) -> Response:
        """The same for people; it loads nothing, and a browser lets it have no style but its own."""
        base = str(escape((self._public_url or request.host_url).rstrip("/")))
        return with_own_style(self._page.replace(PLACEHOLDER, base))

    @cached_property
    def _page(self) -> str:
        """The page: it takes 14 ms to make, and can be read without a key."""
        base = f"{PLACEHOLDER}/api/v2"
        return render_template("docs.html", api=self.document, base=base, examples=EXAMPLES, backticks=backticks)

    @cached_property
    def document(self) -> dict[str, Any]:
        """OpenAPI 3.1, whose schemas are JSON Schema 2020-12: just what msgspec makes."""
        bodies = (
            ModelListBody, ModelFeedBody, SingleModelBody, CreateModelBody, CreatedBody, DeletedBody, OrganizationBody,
            ErrorBody, *openapi_subscriptions.BODIES,
        )  # fmt: skip
        _, schemas = msgspec.json.schema_components(bodies, ref_template=REFERENCE)
        for schema in schemas.values():
            # Its type has a default, and yet every response contains it.
            if (success := schema["properties"].get("success")) is not None:
                success.pop("default", None)
                schema["required"] = ["success", *schema.get("required", ())]
        return {
            "openapi": "3.1.0",
            "info": {"title": "headshot-mirror", "version": __version__, "description": INTRODUCTION},
            "servers": [{"url": "/api/v2"}],
            "security": [{"bearer": []}],
            "paths": _paths(),
            "webhooks": openapi_subscriptions.webhooks(),
            "components": {
                "schemas": schemas,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }


def _paths() -> dict[str, Any]:
    model_id = path_parameter("modelId", "The model's id.")
    idempotency_key = header(
        "Idempotency-Key",
        "The same key with the same body within 24 hours creates once.",
        {"minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    )
    organization = operation(
        "getOrganization", "Get the organization", (OrganizationBody,), (400, *UPSTREAM_STATUSES),
        description="The organization of the mirror's key, read from the upstream at most once a minute.",
    )  # fmt: skip
    listing = operation(
        "listModels", "List models", (ModelListBody, ModelFeedBody), (304, 400, 401, 403, 410, 429, 503),
        description="Newest first. With `updatedSince`: the feed of changes, each model as it is now.",
        parameters=[*parameters(ListQuery), header("If-None-Match", "The ETag of an earlier response.")],
        headers=("ETag", "Age", "X-Mirror-Cursor", "X-Mirror-Accuracy"),
    )  # fmt: skip
    create = operation(
        "createModel", "Create a model (whitelabel only)", (CreatedBody,),
        (400, 402, 404, 409, 413, 415, 422, *UPSTREAM_STATUSES),
        description="Is sent to the upstream; the mirror has merged its response when it arrives.",
        parameters=[idempotency_key], body=CreateModelBody,
    )  # fmt: skip
    get = operation(
        "getModel", "Get model details", (SingleModelBody,), (304, 400, 404, *UPSTREAM_STATUSES),
        parameters=[model_id, *parameters(SingleQuery), header("If-None-Match", "An ETag.")], headers=("ETag", "Age"),
    )  # fmt: skip
    delete = operation(
        "deleteModel", "Delete a model for good", (DeletedBody,), (400, 404, 409, *UPSTREAM_STATUSES),
        description="Is sent to the upstream; the mirror has a tombstone when the response arrives.",
        parameters=[model_id],
    )  # fmt: skip
    return {
        "/organization": {"get": organization},
        "/organization/models": {"get": listing, "post": create},
        "/organization/models/{modelId}": {"get": get, "delete": delete},
        **openapi_subscriptions.paths(),
    }
