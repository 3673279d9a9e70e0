"""A model as the vendor holds it, and the three forms in which it leaves the house: list, single, webhook."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from service.local.sandbox.account import VendorOrganization

    # Milliseconds since 1970 in UTC: every time in the sandbox is one of these.
    Clock = Callable[[], int]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = EPOCH.replace(tzinfo=None)


class VendorModel(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """One headshot session. Times of the vendor's are text as the API writes it; `due` is in milliseconds.

    The patterns of id and creation time hold together what `key` relies on.

    Attributes:
        vanished: gone without a trace: in no list, and 404 when asked for.
        due: when its life goes on by itself; None where nothing is to come.
    """

    id: Annotated[str, Meta(pattern="^[0-9a-f]{24}$")]
    uid: str
    email: str
    title: str
    trigger: str
    status: str
    created_at: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    team_id: str | None = None
    is_development: bool = False
    finished_at: str | None = None
    deleted_at: str | None = None
    invite_expires_at: str | None = None
    photo_count: int = 0
    favorite_photo_id: str | None = None
    vanished: bool = False
    due: int | None = None

    @property
    def key(self) -> str:
        """Sorts by creation; `id_of` finds the way back."""
        return self.created_at + self.id

    @property
    def is_live(self) -> bool:
        """Neither deleted nor vanished."""
        return self.status != "deleted" and not self.vanished


def id_of(key: str) -> str:
    """The model's id in a key: ids have 24 digits."""
    return key[-24:]


def iso(milliseconds: int) -> str:
    """Milliseconds since 1970 in the vendor's form: `2024-01-15T10:30:00.000Z`."""
    return (NAIVE_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds") + "Z"


def milliseconds(text: str) -> int:
    """The reverse of `iso`; any ISO 8601 time with an offset is taken.

    Raises:
        ValueError: it is no such time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no offset in the time {text!r}")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def object_id(rng: Random, created: int) -> str:
    """A MongoDB ObjectId: eight hex digits of Unix seconds, then sixteen of chance."""
    return f"{created // 1000:08x}{rng.getrandbits(64):016x}"


def row(model: VendorModel, teams: Mapping[str, str]) -> dict[str, Any]:
    """An element of the list, as the vendor's page on models shows it."""
    return {
        "id": model.id,
        "uid": model.uid,
        "email": model.email,
        "title": model.title,
        "status": model.status,
        "teamId": model.team_id,
        "teamName": teams.get(model.team_id or ""),
        "isDevelopment": model.is_development,
        "createdAt": model.created_at,
        "finishedAt": model.finished_at,
    }


def details(model: VendorModel, teams: Mapping[str, str]) -> dict[str, Any]:
    """The single GET's model, without the login link."""
    return row(model, teams) | {"photoCount": model.photo_count, "favoritePhotoId": model.favorite_photo_id}


def webhook_object(model: VendorModel, organization_id: str) -> dict[str, Any]:
    """The `object` of a webhook: other fields than the API's, and no e-mail, team, count or favourite."""
    return {
        "_id": model.id,
        "uid": model.uid,
        "title": model.title,
        "trigger": model.trigger,
        "status": model.status,
        "isDevelopment": model.is_development,
        "finishedAt": model.finished_at,
        "deletedAt": model.deleted_at,
        "inviteExpiresAt": model.invite_expires_at,
        "createdAt": model.created_at,
        "organization": organization_id,
    }


def truth(model: VendorModel, organization: VendorOrganization) -> dict[str, Any]:
    """Everything about a model, for tests to compare with: the fields of all three forms, and whether it vanished."""
    known = details(model, organization.team_names) | webhook_object(model, organization.id)
    del known["_id"]
    return known | {"vanished": model.vanished}
