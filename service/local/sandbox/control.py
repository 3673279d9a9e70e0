"""The control API of tests and demonstrations: the truth, and every lever. The package's docstring explains them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, UnsetType, structs

from service.errors import ApiError, SettingsError
from service.local.sandbox.account import VendorOrganization
from service.local.sandbox.api import json_response, served
from service.local.sandbox.core import open_sandbox
from service.local.sandbox.events import bare_body, full_body, new_event
from service.local.sandbox.lifecycle import enter_status
from service.local.sandbox.model import VendorModel, iso, milliseconds, truth, webhook_object
from service.local.sandbox.people import draw_team
from service.local.sandbox.switches import InitialState, parse_switches

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.local.sandbox.core import Sandbox

PREFIX = "/_sandbox"
Form = TypeVar("Form")


class SendEventBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The body of POST /_sandbox/events."""

    event: str
    model_id: str | None = None
    object: dict[str, Any] = {}
    id: str | None = None
    created_at: str | None = None
    form: Literal["full", "bare"] = "full"
    timestamp: int | None = None


class WebhookTargetBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /_sandbox/webhook."""

    url: str | UnsetType | None = UNSET
    secret: str | None = None


class Control:
    """The control calls; each change is settled before it is answered, and none of them is ever hostile."""

    def __init__(self, replace: Callable[[Sandbox], None]) -> None:
        self._replace = replace

    def blueprint(self) -> Blueprint:
        """The routes under `/_sandbox`."""
        control = Blueprint("control", __name__, url_prefix=PREFIX)
        control.after_request(self._flush)
        for error in (ApiError, SettingsError, msgspec.DecodeError, ValueError):
            control.register_error_handler(error, _refuse)
        control.get("/models")(self.models)
        control.get("/models/<model_id>")(self.model)
        control.post("/models")(self.create)
        control.patch("/models/<model_id>")(self.change)
        control.delete("/models/<model_id>")(self.delete)
        control.post("/events")(self.send)
        control.get("/requests")(self.requests)
        control.delete("/requests")(self.forget_requests)
        control.get("/deliveries")(self.deliveries)
        control.get("/hostile")(self.switches)
        control.post("/hostile")(self.update_switches)
        control.post("/webhook")(self.webhook)
        control.post("/organization")(self.organization)
        control.post("/reset")(self.reset)
        return control

    def models(self) -> Response:
        return json_response([self._truth(model) for model in served().vendor.models.values()])

    def model(self, model_id: str) -> Response:
        return json_response(self._truth(self._known(model_id)))

    def create(self) -> Response:
        fields = _body(dict[str, Any])
        number, announce = _pop(fields, "n", 1), _pop(fields, "events", default=False)
        if number > 1 and fields.keys() & {"id", "email"}:
            raise ValueError("several models cannot share one id or e-mail address")
        if fields.get("id") in served().vendor.models:
            raise ValueError("there is a model with this id already")
        return json_response([self._truth(self._create(fields, announce=announce)) for _ in range(number)], 201)

    def change(self, model_id: str) -> Response:
        fields = _body(dict[str, Any])
        announce = _pop(fields, "events", default=False)
        model = self._with(self._known(model_id), fields | {"id": model_id})
        return json_response(self._truth(served().vendor.put(model, announce=announce)))

    def delete(self, model_id: str) -> Response:
        model = self._known(model_id)
        vendor = served().vendor
        gone = vendor.delete(model.id) if request.args.get("events") == "1" else vendor.vanish(model)
        return json_response(self._truth(gone))

    def send(self) -> Response:
        order = _body(SendEventBody)
        sandbox = served()
        if sandbox.account.webhook_url is None:
            raise ValueError("there is no webhook URL to send it to")
        webhook_fields = {}
        if order.model_id is not None:
            webhook_fields = webhook_object(self._known(order.model_id), sandbox.account.organization.id)
        event = new_event(served().control_rng, order.event, sandbox.clock(), webhook_fields | order.object)
        event = structs.replace(event, id=order.id or event.id, created_at=order.created_at or event.created_at)
        sandbox.sender.send(bare_body(event) if order.form == "bare" else full_body(event), stamp=order.timestamp)
        return json_response({"id": event.id}, 202)

    def requests(self) -> Response:
        responses = served().responses
        rows = [
            {"method": method, "route": route, "status": status, "count": count}
            for (method, route, status), count in sorted(responses.items())
        ]
        return json_response({"total": responses.total(), "connections": served().connections, "requests": rows})

    def forget_requests(self) -> Response:
        served().responses.clear()
        served().connections = 0
        return self.requests()

    def deliveries(self) -> Response:
        sender = served().sender
        return json_response(structs.asdict(sender.counts) | {"waiting": len(sender.waiting)})

    def switches(self) -> Response:
        return json_response(served().switches)

    def update_switches(self) -> Response:
        served().update_switches(_body(dict[str, Any]))
        return self.switches()

    def webhook(self) -> Response:
        account = served().account
        target = _body(WebhookTargetBody)
        if target.url is not UNSET:
            account.webhook_url = target.url
        account.webhook_secret = target.secret or account.webhook_secret
        return json_response({"url": account.webhook_url, "secret": account.webhook_secret})

    def organization(self) -> Response:
        account = served().account
        given = msgspec.to_builtins(account.organization) | _body(dict[str, Any])
        account.organization = msgspec.convert(given, VendorOrganization)
        return json_response(account.organization)

    def reset(self) -> Response:
        if served().state_file is not None:
            raise ValueError("this sandbox has a state file: stop it, delete the file and start it again")
        given = _body(dict[str, Any])
        initial = {name: given.pop(name) for name in InitialState.__struct_fields__ if name in given}
        fresh = open_sandbox(parse_switches(given), msgspec.convert(initial, InitialState))
        self._replace(fresh)
        return json_response({"api_key": fresh.account.api_key, "webhook_secret": fresh.account.webhook_secret}, 201)

    def _create(self, fields: dict[str, Any], *, announce: bool) -> VendorModel:
        vendor = served().vendor
        person = served().people.draw(vendor.emails)
        team_id = draw_team(served().account.organization, served().control_rng)
        created = milliseconds(_get(fields, "createdAt", iso(served().clock())))
        is_development = _get(fields, "isDevelopment", default=False)
        new_model = vendor.new_model(person, team_id, is_development=is_development, created=created)
        return vendor.put(self._with(new_model, fields), announce=announce)

    def _with(self, model: VendorModel, fields: dict[str, Any]) -> VendorModel:
        """The model with some fields set; what a new status brings gives way to what is set."""
        wanted = _set(model, fields)
        if wanted.status == model.status:
            return wanted
        now, speed = served().clock(), served().switches.speed
        return _set(enter_status(model, wanted.status, now, served().control_rng, speed), fields)

    def _known(self, model_id: str) -> VendorModel:
        model = served().vendor.models.get(model_id)
        if model is None:
            raise ApiError(404, "NOT_FOUND", "There never was such a model")
        return model

    def _truth(self, model: VendorModel) -> dict[str, Any]:
        return truth(model, served().account.organization)

    def _flush(self, response: Response) -> Response:
        served().flush()
        return response


def _set(model: VendorModel, fields: dict[str, Any]) -> VendorModel:
    """Fields named and checked as the API writes them."""
    return msgspec.convert(msgspec.to_builtins(model) | fields, VendorModel)


def _get(fields: dict[str, Any], name: str, default: Form) -> Form:
    return msgspec.convert(fields.get(name, default), type(default))


def _pop(fields: dict[str, Any], name: str, default: Form) -> Form:
    value = _get(fields, name, default)
    fields.pop(name, None)
    return value


def _body(form: type[Form]) -> Form:
    return msgspec.json.decode(request.get_data() or b"{}", type=form)


def _refuse(error: Exception) -> Response:
    status = error.status if isinstance(error, ApiError) else 400
    return json_response({"success": False, "error": str(error)}, status)
