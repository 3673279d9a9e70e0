"""The parts that the OpenAPI document repeats: parameters, headers, bodies, responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from service.api.schemas import ErrorBody
from service.web.api.examples import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REFERENCE = "#/components/schemas/{name}"

# Status to what it means, as the vendor's pages have them and as ours does.
STATUS_DESCRIPTIONS = {
    304: "Nothing has changed since the response with this ETag",
    400: "INVALID_REQUEST, and on writes whatever else the upstream refuses with a 400",
    401: "UNAUTHORIZED: no bearer key of MIRROR_API_KEYS",
    402: "INSUFFICIENT_CREDITS",
    403: "FORBIDDEN: the key may not do this, or the organization has no whitelabel feature",
    404: "NOT_FOUND",
    409: "CONFLICT: another request with this Idempotency-Key runs, another caller deletes the model, a name is taken, "
    "or a state does not allow it",
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


def parameters(shape: type[msgspec.Struct]) -> list[dict[str, Any]]:
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


def header(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"type": "string", **(schema or {})}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def path_parameter(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def operation(
    name: str,
    summary: str,
    shapes: Sequence[type[msgspec.Struct]],
    errors: Iterable[int],
    *,
    description: str = "",
    parameters: Sequence[dict[str, Any]] = (),
    headers: Iterable[str] = (),
    body: type[msgspec.Struct] | None = None,
    body_required: bool = True,
) -> dict[str, Any]:
    """The description of one call; `name` is its operation id, by which `EXAMPLES` has its example.

    `shapes` are the bodies that a successful response may have, and `headers` the names of its headers. `errors` are
    the statuses of all other responses. `body` is the body of the request.
    """
    example = EXAMPLES[name]
    success = {
        "description": shapes[0].__doc__ or "",
        "content": content(*shapes, example=example.response),
        "headers": {header: {"schema": {"type": "string"}} for header in headers},
    }
    responses: dict[str, Any] = {"200": success}
    for status in sorted(set(errors)):
        responses[str(status)] = {"description": STATUS_DESCRIPTIONS[status]}
        if status != 304:
            responses[str(status)]["content"] = content(ErrorBody)
    call = {"operationId": name, "summary": summary, "description": description, "parameters": list(parameters)}
    request_body = body and {"required": body_required, "content": content(body, example=example.body)}
    return {**call, **({"requestBody": request_body} if request_body else {}), "responses": responses}


def content(*shapes: type[msgspec.Struct], example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    references = [{"$ref": REFERENCE.format(name=shape.__name__)} for shape in shapes]
    media: dict[str, Any] = {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    if example is not None:
        media["example"] = example
    return {"application/json": media}
