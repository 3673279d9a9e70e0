"""The API described: OpenAPI 3.1 out of the types that the code itself uses, and a page of it for people."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, render_template, request
from markupsafe import Markup, escape

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
from service.web.api.examples import EXAMPLES
from service.web.response_headers import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from service.api.schemas import ApiSchema

ORGANIZATION = "/organization"
MODELS = "/organization/models"
MODEL = "/organization/models/{modelId}"
REFERENCE = "#/components/schemas/{name}"

INTRODUCTION = (
    "The vendor's own calls, answered from the mirror: reads of models spend none of its requests. Every parameter, "
    "body, error and shape is the vendor's; its clients ignore everything beyond that."
)

# Status to what it means, as the vendor's pages have them and as ours does.
STATUS_DESCRIPTIONS = {
    304: "Nothing has changed since the response with this ETag",
    400: "INVALID_REQUEST, and on writes whatever else the upstream refuses with a 400",
    401: "UNAUTHORIZED: no bearer key of MIRROR_API_KEYS",
    402: "INSUFFICIENT_CREDITS",
    403: "FORBIDDEN: the key may not do this, or the organization has no whitelabel feature",
    404: "NOT_FOUND",
    409: "CONFLICT: another request with this Idempotency-Key is being worked on",
    410: "GONE: changes since then are no longer kept",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "INVALID_REQUEST: this Idempotency-Key came with another body before",
    429: "RATE_LIMIT_EXCEEDED: the request budget or the vendor's limit is spent, or too many wrong API keys came",
    500: "The upstream's own failure",
    502: "UPSTREAM_ERROR",
    503: "UNAVAILABLE: a server of the mirror's, or its upstream key, is missing",
    504: "UPSTREAM_TIMEOUT: what the upstream did is not known yet",
}
UPSTREAM_STATUSES = (401, 403, 429, 500, 502, 503, 504)


# Stands in the page, which is made once, for the address of each caller.
PLACEHOLDER = "https://base-url.invalid"
_CODE = re.compile(r"`([^`]+)`")


class OpenApiEndpoint:
    """The document, made once, and the page.

    Args:
        public_url: where people reach web; None: wherever a request came.
    """

    def __init__(self, public_url: str | None = None) -> None:
        self._public_url = public_url

    def blueprint(self) -> Blueprint:
        """`/api/openapi.json` and `/api/docs`: they contain no secret, so they need no key."""
        routes = Blueprint("description", __name__, template_folder="templates")
        routes.get("/api/openapi.json")(self.openapi)
        routes.get("/api/docs")(self.page)
        return routes

    def openapi(self) -> Response:
        """The document."""
        return Response(msgspec.json.encode(self.document), content_type="application/json; charset=utf-8")

    def page(self) -> Response:
        """The same for people; it loads nothing, and a browser lets it have no style but its own."""
        page, policy = self._page
        base = str(escape((self._public_url or request.host_url).rstrip("/")))
        headers = {"Content-Security-Policy": policy}
        return Response(page.replace(PLACEHOLDER, base), content_type="text/html; charset=utf-8", headers=headers)

    @cached_property
    def _page(self) -> tuple[str, str]:
        """The page and its policy: they take 14 ms to make, and can be read without a key."""
        base = f"{PLACEHOLDER}/api/v2"
        page = render_template("docs.html", api=self.document, base=base, examples=EXAMPLES, marked_up=marked_up)
        style = page.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        return page, f"{NOTHING}; style-src 'sha256-{digest}'"

    @cached_property
    def document(self) -> dict[str, Any]:
        """OpenAPI 3.1, whose schemas are JSON Schema 2020-12: just what msgspec makes."""
        bodies = (
            ModelListBody, ModelFeedBody, SingleModelBody, CreateModelBody, CreatedBody, DeletedBody, OrganizationBody,
            ErrorBody,
        )  # fmt: skip
        _, schemas = msgspec.json.schema_components(bodies, ref_template=REFERENCE)
        for schema in schemas.values():
            _require_success(schema)
        return {
            "openapi": "3.1.0",
            "info": {"title": "headshot-mirror", "version": __version__, "description": INTRODUCTION},
            "servers": [{"url": "/api/v2"}],
            "security": [{"bearer": []}],
            "paths": {
                ORGANIZATION: {"get": _organization()},
                MODELS: {"get": _list(), "post": _create()},
                MODEL: {"get": _get(), "delete": _delete()},
            },
            "components": {
                "schemas": schemas,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }


def marked_up(text: str) -> Markup:
    """Text of the document for a page: what is between backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _require_success(schema: dict[str, Any]) -> None:
    """Mark `success` as required: its type has a default, and yet every response contains it."""
    success = schema["properties"].get("success")
    if success is not None:
        success.pop("default", None)
        schema["required"] = ["success", *schema.get("required", ())]


def _organization() -> dict[str, Any]:
    return {
        "operationId": "getOrganization",
        "summary": "Get the organization",
        "description": "The organization of the mirror's key, read from the upstream at most once a minute.",
        "responses": _responses((OrganizationBody,), (400, *UPSTREAM_STATUSES), example="getOrganization"),
    }


def _list() -> dict[str, Any]:
    return {
        "operationId": "listModels",
        "summary": "List models",
        "description": "Newest first. With `updatedSince`: the feed of changes, each model as it is now.",
        "parameters": [*_parameters(ListQuery), _header("If-None-Match", "The ETag of an earlier response.")],
        "responses": _responses(
            (ModelListBody, ModelFeedBody),
            (304, 400, 401, 403, 410, 429, 503),
            headers=("ETag", "Age", "X-Mirror-Cursor"),
            example="listModels",
        ),
    }


def _create() -> dict[str, Any]:
    idempotency_key = _header(
        "Idempotency-Key",
        "The same key with the same body within 24 hours creates once.",
        {"minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    )
    return {
        "operationId": "createModel",
        "summary": "Create a model (whitelabel only)",
        "description": "Is sent to the upstream; the mirror has merged its response when it arrives.",
        "parameters": [idempotency_key],
        "requestBody": {"required": True, "content": _content(CreateModelBody, example=EXAMPLES["createModel"].body)},
        "responses": _responses(
            (CreatedBody,), (400, 402, 404, 409, 413, 415, 422, *UPSTREAM_STATUSES), example="createModel"
        ),
    }


def _get() -> dict[str, Any]:
    return {
        "operationId": "getModel",
        "summary": "Get model details",
        "parameters": [_model_id(), *_parameters(SingleQuery), _header("If-None-Match", "An ETag.")],
        "responses": _responses(
            (SingleModelBody,), (304, 400, 404, *UPSTREAM_STATUSES), headers=("ETag", "Age"), example="getModel"
        ),
    }


def _delete() -> dict[str, Any]:
    return {
        "operationId": "deleteModel",
        "summary": "Delete a model for good",
        "description": "Is sent to the upstream; the mirror has a tombstone when the response arrives.",
        "parameters": [_model_id()],
        "responses": _responses((DeletedBody,), (400, 404, *UPSTREAM_STATUSES), example="deleteModel"),
    }


def _parameters(shape: type[ApiSchema]) -> list[dict[str, Any]]:
    """The fields of a set of parameters, each with its schema, default and description."""
    _, components = msgspec.json.schema_components([shape], ref_template=REFERENCE)
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in components[shape.__name__]["properties"].items()
    ]


def _header(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"type": "string", **(schema or {})}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _model_id() -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": "modelId", "in": "path", "required": True, "description": "The model's id.", "schema": schema}


def _responses(
    shapes: Sequence[type[ApiSchema]], errors: Iterable[int], headers: Iterable[str] = (), *, example: str
) -> dict[str, dict[str, Any]]:
    shown = {name: {"schema": {"type": "string"}} for name in headers}
    responses: dict[str, dict[str, Any]] = {
        "200": {
            "description": shapes[0].__doc__ or "",
            "content": _content(*shapes, example=EXAMPLES[example].response),
            "headers": shown,
        }
    }
    for status in sorted(set(errors)):
        responses[str(status)] = {"description": STATUS_DESCRIPTIONS[status]}
        if status != 304:
            responses[str(status)]["content"] = _content(ErrorBody)
    return responses


def _content(*shapes: type[ApiSchema], example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    references = [{"$ref": REFERENCE.format(name=shape.__name__)} for shape in shapes]
    content: dict[str, Any] = {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    if example is not None:
        content["example"] = example
    return {"application/json": content}
