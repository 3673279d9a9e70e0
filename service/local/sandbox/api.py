"""The vendor's calls over HTTP, as its pages document them, and everything that all responses have in common."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Blueprint, Response, g, request
from werkzeug.http import http_date

from service.errors import ApiError
from service.local.sandbox.hostile import broken_body
from service.local.sandbox.model import details, row

if TYPE_CHECKING:
    from service.local.sandbox.core import Sandbox

PREFIX = "/api/v2"
LIMIT = 50
LONGEST_PAGE = 200
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Where the environment of a request has the sandbox that it came to.
SERVED = "headshotpro.sandbox"


class VendorSignUp(msgspec.Struct, rename="camel"):
    """The body of POST /organization/models; fields that the vendor does not know are passed over."""

    email: str
    team_id: str | None = None
    is_development: bool = False


class VendorApi:
    """The calls. Before each: key, rate, delay, fault. After each: settle, delay, fault, headers, count."""

    def blueprint(self) -> Blueprint:
        """The routes under `/api/v2`."""
        api = Blueprint("api", __name__, url_prefix=PREFIX)
        api.before_request(self._check_request)
        api.after_request(self._finish_response)
        api.register_error_handler(ApiError, _refuse)
        api.get("/organization")(self.organization)
        api.get("/organization/models")(self.list_models)
        api.post("/organization/models")(self.create)
        api.get("/organization/models/<model_id>")(self.get)
        api.delete("/organization/models/<model_id>")(self.delete)
        api.route("/", defaults={"path": ""}, methods=METHODS)(_no_such_route)
        api.route("/<path:path>", methods=METHODS)(_no_such_route)
        return api

    def organization(self) -> Response:
        """Which organization the key belongs to."""
        organization = served().account.organization
        place = "data" if served().switches.dialect == "others" else "organization"
        shown = {
            "uid": organization.uid,
            "name": organization.name,
            "website": organization.website,
            "teams": organization.teams,
        }
        return json_response({"success": True, place: shown})

    def list_models(self) -> Response:
        limit = min(_number("limit", LIMIT, least=1), LONGEST_PAGE)
        offset = _number("offset", 0, least=0)
        if served().fault_injector.drifts():
            served().life.drift()
        models, total = served().vendor.listing.page(
            offset,
            limit,
            status=request.args.get("status") or None,
            team_id=request.args.get("teamId") or None,
            moment=self._replica_time(),
        )
        teams = served().account.organization.team_names
        pagination = {"total": total, "limit": limit, "offset": offset, "hasMore": offset + len(models) < total}
        return json_response(
            {"success": True, "models": [row(model, teams) for model in models], "pagination": pagination}
        )

    def create(self) -> Response:
        try:
            wanted = msgspec.json.decode(request.get_data(), type=VendorSignUp)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ApiError(400, "INVALID_REQUEST", f"Invalid request body: {error}") from None
        vendor = served().vendor
        model = vendor.sign_up(wanted.email, wanted.team_id, is_development=wanted.is_development)
        return json_response(
            {"success": True, "modelId": model.id, "status": model.status, "signedUrl": vendor.signed_url(model)}
        )

    def get(self, model_id: str) -> Response:
        """One model, with the fields that the list does not contain."""
        vendor = served().vendor
        model = vendor.listing.find(model_id, self._replica_time())
        if model is None:
            raise ApiError(404, "NOT_FOUND", "Model not found")
        shown = details(model, served().account.organization.team_names)
        if served().switches.whitelabel:
            shown["signedUrl"] = vendor.signed_url(model)
        return json_response({"success": True, "model": shown})

    def delete(self, model_id: str) -> Response:
        served().vendor.delete(model_id)
        return json_response({"success": True, "message": "Model deleted successfully", "modelId": model_id})

    def _replica_time(self) -> int | None:
        """The time of the replica that this request reads from; None where none lags."""
        lag = served().fault_injector.lag()
        return served().clock() - lag if lag else None

    def _check_request(self) -> None:
        sandbox = served()
        g.fault, g.delay, g.grant = None, 0.0, sandbox.window.peek(sandbox.clock())
        if not _has_key(sandbox.account.api_key):
            raise ApiError(401, "UNAUTHORIZED", "Invalid or missing API key")
        g.grant = sandbox.window.take(sandbox.clock())
        if not g.grant.allowed:
            raise ApiError(429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded")
        before, g.delay = sandbox.fault_injector.delays()
        if before:
            time.sleep(before)
        g.fault = sandbox.fault_injector.fault()
        if g.fault == "refused":
            raise _server_error()

    def _finish_response(self, response: Response) -> Response:
        served().flush()
        if g.delay:
            time.sleep(g.delay)
        if g.fault == "failed":
            response = _refuse(_server_error())
        response.headers.update(g.grant.headers())
        response.headers["Date"] = http_date(served().clock() / 1000)
        if g.fault == "truncated":
            body = response.get_data()
            response.set_data(body[: len(body) // 2])
        elif g.fault in ("cut", "dropped"):
            body = response.get_data()
            response.response = broken_body(body, g.fault)
            response.headers["Content-Length"] = str(len(body))
        self._count(response)
        return response

    def _count(self, response: Response) -> None:
        rule = request.url_rule.rule if request.url_rule else ""
        route = rule.removeprefix(PREFIX).replace("<model_id>", ":modelId")
        status = 0 if g.fault in ("cut", "dropped") else response.status_code
        served().responses[request.method, route, status] += 1


def served() -> Sandbox:
    """The sandbox of this request, also after another one took its place."""
    found: Sandbox = request.environ[SERVED]
    return found


def json_response(document: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(document), status, content_type="application/json; charset=utf-8")


def _refuse(refusal: ApiError) -> Response:
    return json_response({"success": False, "error": str(refusal), "code": refusal.code}, refusal.status)


def _server_error() -> ApiError:
    return ApiError(500, "INTERNAL_SERVER_ERROR", "Internal server error")


def _no_such_route(path: str) -> Response:
    raise ApiError(404, "NOT_FOUND", f"No route {request.method} /{path}")


def _has_key(key: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())


def _number(name: str, default: int, *, least: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise ApiError(400, "INVALID_REQUEST", f"Invalid {name}: a whole number of at least {least} is needed")
    return int(text)
