"""Which events a change gives rise to, and the bodies that announce them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from service.local.sandbox.model import iso

if TYPE_CHECKING:
    from random import Random

    from service.local.sandbox.model import VendorModel


class VendorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a model; `created_at` is the vendor's text."""

    id: str
    name: str
    created_at: str
    object: dict[str, Any]


def event_names(old: VendorModel | None, new: VendorModel) -> list[str]:
    """The events of one change, in the vendor's names. A change that no event is documented for has none."""
    if new.vanished:
        return []
    if old is None:
        return ["model.created"]
    names = []
    if new.status != old.status:
        names = ["model.deleted"] if new.status == "deleted" else ["model.status.updated"]
        if new.status == "active":
            names.append("model.photos_ready")
    if new.favorite_photo_id not in (None, old.favorite_photo_id):
        names.append("model.favorite_selected")
    return names


def new_event(rng: Random, name: str, now: int, webhook_object: dict[str, Any]) -> VendorEvent:
    """An event of this moment (milliseconds), with an id of its own."""
    identity = uuid.UUID(int=rng.getrandbits(128), version=4)
    return VendorEvent(id=f"evt_{identity}", name=name, created_at=iso(now), object=webhook_object)


def full_body(event: VendorEvent) -> str:
    """The documented body."""
    return _json(
        {
            "id": event.id,
            "event": event.name,
            "createdAt": event.created_at,
            "objectType": "model",
            "object": event.object,
        }
    )


def bare_body(event: VendorEvent) -> str:
    """The body of another page of the vendor's: no `id`, no `createdAt`, and what is null is absent."""
    present = {name: value for name, value in event.object.items() if value is not None}
    return _json({"event": event.name, "objectType": "model", "object": present})


def _json(document: dict[str, Any]) -> str:
    return msgspec.json.encode(document).decode()
