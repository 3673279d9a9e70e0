"""The vendor's models: what exists and what may be done to it. No sockets, no files.

Every change goes through `put`, which keeps the list, the addresses, the agenda of lives and the events in step.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from service.errors import ApiError
from service.local.sandbox.events import VendorEvent, event_names, new_event
from service.local.sandbox.lifecycle import enter_status, status_duration_ms
from service.local.sandbox.listing import VendorListing
from service.local.sandbox.model import VendorModel, iso, object_id, webhook_object
from service.local.sandbox.people import INVITATION_MS, Person, draw_trigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from service.local.sandbox.account import Account
    from service.local.sandbox.model import Clock
    from service.local.sandbox.switches import Switches

EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


class Vendor:
    """Holds the models. `events` and `unsaved` collect what the process has yet to send and to keep."""

    def __init__(self, account: Account, switches: Switches, rng: Random, clock: Clock) -> None:
        self.account = account
        self.models: dict[str, VendorModel] = {}
        self.emails: dict[str, str] = {}
        self.events: list[VendorEvent] = []
        self.unsaved: dict[str, VendorModel] = {}
        self._switches = switches
        self._rng = rng
        self._clock = clock
        self.listing = VendorListing(self.models, switches)
        # Due times and ids; entries that were overtaken by another change stay and are passed over.
        self._agenda: list[tuple[int, str]] = []

    def load(self, models: Iterable[VendorModel]) -> None:
        """Take over models that exist already: nothing is announced."""
        for model in models:
            self.models[model.id] = model
            if model.is_live:
                self.emails[model.email.lower()] = model.id
            if model.due is not None:
                self._agenda.append((model.due, model.id))
        heapq.heapify(self._agenda)
        self.listing.rebuild()

    def put(self, model: VendorModel, *, announce: bool = True) -> VendorModel:
        """Store a new or changed model; with `announce` send the webhook of the change."""
        old = self.models.get(model.id)
        now = self._clock()
        self.listing.replace(old, model, now)
        # Deleting a model removes its user: the address is free again.
        if old is not None and self.emails.get(old.email.lower()) == model.id:
            del self.emails[old.email.lower()]
        if model.is_live:
            self.emails[model.email.lower()] = model.id
        if model.due is not None and (old is None or old.due != model.due):
            heapq.heappush(self._agenda, (model.due, model.id))
        self.models[model.id] = self.unsaved[model.id] = model
        if announce:
            webhook_fields = webhook_object(model, self.account.organization.id)
            self.events += [new_event(self._rng, name, now, webhook_fields) for name in event_names(old, model)]
        return model

    def pop_due(self, now: int) -> Iterator[VendorModel]:
        """The models whose life goes on now (milliseconds), in order; each only once."""
        while self._agenda and self._agenda[0][0] <= now:
            due, model_id = heapq.heappop(self._agenda)
            model = self.models[model_id]
            if model.due == due and model.is_live:
                yield model

    def new_model(self, person: Person, team_id: str | None, *, is_development: bool, created: int) -> VendorModel:
        """A model that has just begun, not stored yet; `created` is in milliseconds."""
        rng = self._rng
        return VendorModel(
            id=object_id(rng, created),
            uid=f"anon_{rng.getrandbits(48):012x}",
            email=person.email,
            title=person.name,
            trigger=person.trigger,
            status="onboarding",
            created_at=iso(created),
            team_id=team_id,
            is_development=is_development,
            invite_expires_at=None if is_development else iso(created + INVITATION_MS),
            due=created + status_duration_ms("onboarding", rng, self._switches.speed, is_development=is_development),
        )

    def sign_up(self, email: str, team_id: str | None, *, is_development: bool) -> VendorModel:
        """The vendor's POST.

        Raises:
            ApiError: with the status and code of the vendor's error table.
        """
        other = self._switches.dialect == "others"
        if not self._switches.whitelabel:
            raise ApiError(403, "FORBIDDEN", "Whitelabel feature not enabled")
        if not EMAIL.fullmatch(email):
            raise ApiError(400, "INVALID_EMAIL" if other else "INVALID_REQUEST", "Invalid email format")
        if team_id is not None and team_id not in self.account.organization.team_names:
            raise ApiError(404, "NOT_FOUND", "Team not found")
        if email.lower() in self.emails:
            code = "ALREADY_EXISTS" if other else "INVALID_REQUEST"
            raise ApiError(400, code, "User with this email already exists")
        if not is_development:
            if self.account.credits < 1:
                raise ApiError(402, "INSUFFICIENT_CREDITS", "Not enough credits")
            self.account.credits -= 1
        person = Person(email.partition("@")[0], email, draw_trigger(self._rng))
        return self.put(self.new_model(person, team_id, is_development=is_development, created=self._clock()))

    def delete(self, model_id: str) -> VendorModel:
        """The vendor's DELETE.

        Raises:
            ApiError: there is no such model, or it is deleted already.
        """
        model = self.models.get(model_id)
        if model is None or model.vanished:
            raise ApiError(404, "NOT_FOUND", "Model not found")
        if model.status == "deleted":
            raise ApiError(400, "ALREADY_DELETED", "Model has already been deleted")
        return self.put(enter_status(model, "deleted", self._clock(), self._rng, self._switches.speed))

    def vanish(self, model: VendorModel) -> VendorModel:
        """Let a model go without a trace: no event, in no list, 404."""
        deleted_at = model.deleted_at or iso(self._clock())
        return self.put(replace(model, status="deleted", deleted_at=deleted_at, vanished=True, due=None))

    def signed_url(self, model: VendorModel) -> str:
        """The login link of a whitelabel organization."""
        token = hashlib.sha256(f"{self.account.seed}:{model.id}".encode()).hexdigest()
        return f"https://yourproheadshots.com/auth/social?token={token}&anonymous=1"
