"""The sandbox with a control API for tests: the truth, and every lever; `python -m tests.support.sandbox_control`.

It lies beside the vendor's under `/_sandbox`: JSON, no key, never hostile. Fields of models are named as in the API.

- `GET /_sandbox/models`, `GET /_sandbox/models/ID`: the truth, deleted and vanished models included: the fields of
  list, single GET and webhook (`organization`, `trigger`, …), and `vanished`.
- `POST /_sandbox/models` `{n?, events?, …fields}`: new models, without webhooks unless `events` is true; answers the
  list of them. Fields that are not given are plausible; without `status` they are `onboarding`.
- `PATCH /_sandbox/models/ID` `{events?, …fields}`: set fields. A new `status` brings what it brings in life
  (`finishedAt`, `photoCount`, `deletedAt`) unless given too. With `events` true the webhooks that the vendor has for
  such a change are sent: for a status `model.status.updated` (and `model.photos_ready` or `model.deleted`), for
  `favoritePhotoId` `model.favorite_selected`, for anything else none.
- `DELETE /_sandbox/models/ID`: let it vanish without a word: in no list, 404. With `?events=1`: the vendor's own
  DELETE.
- `POST /_sandbox/events` `{event, modelId?, object?, id?, createdAt?, form?, timestamp?}`: send any event now,
  whatever the switches say: `object` overrides fields of the model's, `form` is `full` or `bare`, `timestamp` is
  signed instead of the present. Answers `{id}`.
- `GET /_sandbox/requests`: `{total, connections, requests: [{method, route, status, count}]}` of the API since the
  start or since `DELETE /_sandbox/requests`; status 0 is a connection that was dropped on purpose.
- `GET /_sandbox/deliveries`: `sent` (requests), `acknowledged`, `refused` (requests), `given_up`, `lost`, `waiting`.
- `GET /_sandbox/hostile`, `POST /_sandbox/hostile` `{switch: value, …}`: switches are the options named as in
  `switches.py` (`loss`, `errors`, `drift`, `slow`, `quiet`, `births`, `rate`, `replica_lag`, …); all are turned or
  none.
- `POST /_sandbox/webhook` `{url?, secret?}`: another receiver or secret, at once; a null URL stops the sender.
- `POST /_sandbox/organization` `{uid?, id?, name?, website?, teams?}`: whose key it is.
- `POST /_sandbox/reset` `{models?, seed?, credits?, api_key?, webhook_secret?, webhook_url?, switch: value, …}`: begin
  anew, with the defaults of the command line for what is not given: nothing of before is left, no model, no count, no
  delivery that waits. Answers `{api_key, webhook_secret}`. 400 with a state file, which only a new process opens.

Errors are 400 or 404 with `{"success": false, "error": words}`.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == "__main__":
    # Before anything below is imported, as the command does.
    monkey.patch_all()

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from unittest.mock import patch

import msgspec
from flask import Blueprint, Response, g, request
from msgspec import UNSET, UnsetType, structs

from service.errors import SettingsError
from service.local.sandbox.account import VendorOrganization
from service.local.sandbox.api import PREFIX as API
from service.local.sandbox.api import SERVED, json_response, served
from service.local.sandbox.command import sandbox as command
from service.local.sandbox.core import open_sandbox
from service.local.sandbox.events import bare_body, full_body, new_event
from service.local.sandbox.lifecycle import enter_status
from service.local.sandbox.model import VendorModel, details, iso, milliseconds, webhook_object
from service.local.sandbox.people import PersonGenerator, draw_team
from service.local.sandbox.server import SandboxServer
from service.local.sandbox.switches import InitialState, parse_switches
from service.local.sandbox.vendor import VendorError

if TYPE_CHECKING:
    import gevent.event

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

    def __init__(self, served_now: SandboxServer) -> None:
        self._served_now = served_now
        self.begin(served_now.sandbox)

    def begin(self, sandbox: Sandbox) -> None:
        """Count and make up what belongs to this sandbox, from nothing."""
        # Whom and what the calls make up.
        self._rng = sandbox.random_source("control")
        self._people = PersonGenerator(self._rng, sandbox.account.organization.domain)
        # Answers by method, route and status; status 0 is a connection dropped on purpose.
        self._responses: Counter[tuple[str, str, int]] = Counter()

    @property
    def _sandbox(self) -> Sandbox:
        return served()

    def blueprint(self) -> Blueprint:
        """The routes under `/_sandbox`."""
        control = Blueprint("control", __name__, url_prefix=PREFIX)
        control.after_request(self._flush)
        for error in (VendorError, SettingsError, msgspec.DecodeError, ValueError):
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
        return json_response([self._truth(model) for model in self._sandbox.vendor.models.values()])

    def model(self, model_id: str) -> Response:
        return json_response(self._truth(self._known(model_id)))

    def create(self) -> Response:
        fields = _body(dict[str, Any])
        number, announce = _pop(fields, "n", 1), _pop(fields, "events", default=False)
        if number > 1 and fields.keys() & {"id", "email"}:
            raise ValueError("several models cannot share one id or e-mail address")
        if fields.get("id") in self._sandbox.vendor.models:
            raise ValueError("there is a model with this id already")
        return json_response([self._truth(self._create(fields, announce=announce)) for _ in range(number)], 201)

    def change(self, model_id: str) -> Response:
        fields = _body(dict[str, Any])
        announce = _pop(fields, "events", default=False)
        model = self._with(self._known(model_id), fields | {"id": model_id})
        return json_response(self._truth(self._sandbox.vendor.put(model, announce=announce)))

    def delete(self, model_id: str) -> Response:
        model = self._known(model_id)
        vendor = self._sandbox.vendor
        gone = vendor.delete(model.id) if request.args.get("events") == "1" else vendor.vanish(model)
        return json_response(self._truth(gone))

    def send(self) -> Response:
        order = _body(SendEventBody)
        sandbox = self._sandbox
        if sandbox.account.webhook_url is None:
            raise ValueError("there is no webhook URL to send it to")
        webhook_fields = {}
        if order.model_id is not None:
            webhook_fields = webhook_object(self._known(order.model_id), sandbox.account.organization.id)
        event = new_event(self._rng, order.event, sandbox.clock(), webhook_fields | order.object)
        event = structs.replace(event, id=order.id or event.id, created_at=order.created_at or event.created_at)
        sandbox.sender.send(bare_body(event) if order.form == "bare" else full_body(event), stamp=order.timestamp)
        return json_response({"id": event.id}, 202)

    def requests(self) -> Response:
        responses = self._responses
        rows = [
            {"method": method, "route": route, "status": status, "count": count}
            for (method, route, status), count in sorted(responses.items())
        ]
        return json_response({"total": responses.total(), "connections": self._sandbox.connections, "requests": rows})

    def forget_requests(self) -> Response:
        self._responses.clear()
        self._sandbox.connections = 0
        return self.requests()

    def deliveries(self) -> Response:
        sender = self._sandbox.sender
        return json_response(structs.asdict(sender.counts) | {"waiting": len(sender.waiting)})

    def switches(self) -> Response:
        return json_response(self._sandbox.switches)

    def update_switches(self) -> Response:
        """Turn all of these switches or none."""
        sandbox = self._sandbox
        checked = parse_switches(structs.asdict(sandbox.switches) | _body(dict[str, Any]))
        for name, value in structs.asdict(checked).items():
            setattr(sandbox.switches, name, value)
        sandbox.vendor.listing.rebuild()
        return self.switches()

    def webhook(self) -> Response:
        account = self._sandbox.account
        target = _body(WebhookTargetBody)
        if target.url is not UNSET:
            account.webhook_url = target.url
        account.webhook_secret = target.secret or account.webhook_secret
        return json_response({"url": account.webhook_url, "secret": account.webhook_secret})

    def organization(self) -> Response:
        account = self._sandbox.account
        given = msgspec.to_builtins(account.organization) | _body(dict[str, Any])
        account.organization = msgspec.convert(given, VendorOrganization)
        return json_response(account.organization)

    def reset(self) -> Response:
        if self._sandbox.state_file is not None:
            raise ValueError("this sandbox has a state file: stop it, delete the file and start it again")
        given = _body(dict[str, Any])
        initial = {name: given.pop(name) for name in InitialState.__struct_fields__ if name in given}
        fresh = open_sandbox(parse_switches(given), msgspec.convert(initial, InitialState))
        self._served_now.clear()
        self._served_now.show(fresh)
        self.begin(fresh)
        return json_response({"api_key": fresh.account.api_key, "webhook_secret": fresh.account.webhook_secret}, 201)

    def _create(self, fields: dict[str, Any], *, announce: bool) -> VendorModel:
        vendor = self._sandbox.vendor
        person = self._people.draw(vendor.emails)
        team_id = draw_team(self._sandbox.account.organization, self._rng)
        created = milliseconds(_get(fields, "createdAt", iso(self._sandbox.clock())))
        is_development = _get(fields, "isDevelopment", default=False)
        new_model = vendor.new_model(person, team_id, is_development=is_development, created=created)
        return vendor.put(self._with(new_model, fields), announce=announce)

    def _with(self, model: VendorModel, fields: dict[str, Any]) -> VendorModel:
        """The model with some fields set; what a new status brings gives way to what is set."""
        wanted = _set(model, fields)
        if wanted.status == model.status:
            return wanted
        now, speed = self._sandbox.clock(), self._sandbox.switches.speed
        return _set(enter_status(model, wanted.status, now, self._rng, speed), fields)

    def _known(self, model_id: str) -> VendorModel:
        model = self._sandbox.vendor.models.get(model_id)
        if model is None:
            raise VendorError(404, "NOT_FOUND", "There never was such a model")
        return model

    def _truth(self, model: VendorModel) -> dict[str, Any]:
        return _truth_of(model, self._sandbox.account.organization)

    def count(self, response: Response) -> Response:
        """Count an answer of the vendor's API."""
        if request.blueprint == "api" and request.environ[SERVED] is self._served_now.sandbox:
            rule = request.url_rule.rule if request.url_rule else ""
            route = rule.removeprefix(API).replace("<model_id>", ":modelId")
            status = 0 if g.fault in ("cut", "dropped") else response.status_code
            self._responses[request.method, route, status] += 1
        return response

    def _flush(self, response: Response) -> Response:
        self._sandbox.flush()
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
    status = error.status if isinstance(error, VendorError) else 400
    return json_response({"success": False, "error": str(error)}, status)


def _truth_of(model: VendorModel, organization: VendorOrganization) -> dict[str, Any]:
    """Everything about a model: the fields of all three forms, and whether it vanished."""
    known = details(model, organization.team_names) | webhook_object(model, organization.id)
    del known["_id"]
    return known | {"vanished": model.vanished}


class ControlledServer(SandboxServer):
    """The server of the command, and the control calls beside the vendor's."""

    def __init__(self, sandbox: Sandbox, over: gevent.event.AsyncResult[None]) -> None:
        super().__init__(sandbox, over)
        control = Control(self)
        self.app.register_blueprint(control.blueprint())
        self.app.after_request(control.count)


if __name__ == "__main__":
    with patch("service.local.sandbox.server.SandboxServer", ControlledServer):
        command(prog_name="python -m tests.support.sandbox_control")
