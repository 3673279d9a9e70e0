"""The one list of what the mirror keeps of a model: its fields and its statuses. Pure.

Merge, payloads, storage, API, erasure, alerts, metrics and the command line derive theirs from it.

A new field takes three steps here, and two more in documents and tests (`CONTRIBUTING.md`):

1. A line in `FIELDS`. Payloads decode the field, the merge orders it with its group, pulls insert and compare it, the
   history and the API show it, and erasure removes it if it is personal.
2. A migration that adds the column to `models`, nullable, with the type of its kind and its `comment`, and replaces the
   view `live_models` and the functions of merges, which keep the columns of their time.
3. The sandbox sends it (`service/local/sandbox/model.py`).

A new status takes three steps:

1. A line in `STATUSES`.
2. A migration for the comment of `models.status`, and for a view that has to name the status.
3. The sandbox's models pass through it (`service/local/sandbox/lifecycle.py`).

Not in the list: `id`, which is no field but the model itself, and `deleted_at`, which follows from life and death
(`service.mirror.merge`). Code names these two wherever it needs them.

Why: `docs/decisions/0028-one-list-of-fields.md`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Source(Enum):
    """The sources of a model's fields. Our API has the vendor's own calls, so it shows those of list and single GET."""

    LIST = auto()
    SINGLE = auto()
    WEBHOOK = auto()


class Group(NamedTuple):
    """Fields that every source sends together or not at all, so that they share one clock.

    Attributes:
        name: `NAME_at` is the column of `model_clocks` that holds its clock.
        sources: what sends it.
    """

    name: str
    sources: frozenset[Source]

    @property
    def clock(self) -> str:
        """The column of `model_clocks` with the time as of which it is known."""
        return f"{self.name}_at"


CORE = Group("core", frozenset(Source))
INVITATION = Group("invitation", frozenset({Source.WEBHOOK}))
PROFILE = Group("profile", frozenset({Source.LIST, Source.SINGLE}))
DETAIL = Group("detail", frozenset({Source.SINGLE}))
GROUPS = (CORE, INVITATION, PROFILE, DETAIL)


class Kind(Enum):
    """The kind of a value."""

    TEXT = auto()  # as a person wrote it
    ID = auto()  # given by the vendor
    WORD = auto()  # one out of a few of the vendor's
    FLAG = auto()
    COUNT = auto()
    TIME = auto()


class Personal(Enum):
    """How a value is about a person. Erasure removes either; it searches events and keys for a name."""

    NAME = auto()  # a text by which the person can be recognized
    TRAIT = auto()  # which many people share


class Field(NamedTuple):
    """A field of a model.

    Attributes:
        column: of `models`; the field's name in our code.
        json_name: as the upstream and our API spell it.
        group: whose clock it shares; its sources are the field's.
        kind: of its value.
        comment: of the column, for people who read the table.
        personal: None where it is not about a person.
        indexed: it is a text that an index of `models` holds, so one that is too long for an index is refused.
        webhook_name: as webhooks spell it, where they differ.
    """

    column: str
    json_name: str
    group: Group
    kind: Kind
    comment: str
    personal: Personal | None = None
    indexed: bool = False
    webhook_name: str | None = None

    def name_in(self, source: Source) -> str:
        """The field's name in what a source sends."""
        return self.webhook_name or self.json_name if source is Source.WEBHOOK else self.json_name


class Status(NamedTuple):
    """A status that the vendor documents.

    Attributes:
        name: as the vendor spells it.
        rank: progress of a model's life: of two statuses of the same moment the greater wins. A status that is not in
            the list has rank 0.
        hot: it still changes, so hot pulls read it, and a model that failed is not well yet in it.
        moving: the vendor works on the model, which may get stuck.
    """

    name: str
    rank: int
    hot: bool = False
    moving: bool = False


ACTIVE = "active"
FAILED = "failed"
DELETED = "deleted"

# In the order of the vendor's documents.
STATUSES = (
    Status("onboarding", 1, hot=True),
    Status("waiting", 2, hot=True, moving=True),
    Status("pending", 4, hot=True, moving=True),
    Status("generatingHeadshots", 5, hot=True, moving=True),
    Status(ACTIVE, 6),
    Status(FAILED, 3, hot=True),
    Status(DELETED, 7),
)
STATUS_NAMES = tuple(status.name for status in STATUSES)

# In the order of the vendor's documents, which our API keeps.
FIELDS = (
    Field("uid", "uid", CORE, Kind.ID, "The vendor's anonymous id of the person", Personal.NAME),
    Field(
        "email", "email", PROFILE, Kind.TEXT,
        "The person's e-mail address; null until a list page or a single GET showed it",
        Personal.NAME, indexed=True,
    ),
    Field("title", "title", CORE, Kind.TEXT, "The model's title, mostly the person's name", Personal.NAME),
    Field(
        "status", "status", CORE, Kind.WORD,
        f"{', '.join(STATUS_NAMES[:-1])} or {STATUS_NAMES[-1]}; a status that the vendor "
        "adds later is stored as it was sent; null only where no observation named one",
        indexed=True,
    ),
    Field("team_id", "teamId", PROFILE, Kind.ID, "The vendor's id of the person's team", indexed=True),
    Field("team_name", "teamName", PROFILE, Kind.TEXT, "The team's name"),
    Field("is_development", "isDevelopment", CORE, Kind.FLAG, "True for a model of the vendor's test mode"),
    Field(
        "photo_count", "photoCount", DETAIL, Kind.COUNT,
        "How many photos it has; null: not read yet (only a single GET shows it)",
    ),
    Field(
        "favorite_photo_id", "favoritePhotoId", DETAIL, Kind.ID,
        "The photo that the person chose; null: none, or not read yet",
    ),
    Field("created_at", "createdAt", CORE, Kind.TIME, "When the model was created, by the vendor"),
    Field("finished_at", "finishedAt", CORE, Kind.TIME, "When its headshots were ready, by the vendor"),
    Field(
        "trigger", "trigger", INVITATION, Kind.WORD,
        "The chosen gender, `male` or `female`; only webhooks carry it",
        Personal.TRAIT,
    ),
    Field(
        "invite_expires_at", "inviteExpiresAt", INVITATION, Kind.TIME,
        "When the person's invitation expires; only webhooks carry it",
    ),
    Field(
        "organization_id", "organizationId", INVITATION, Kind.ID,
        "The organization's id as webhooks name it",
        webhook_name="organization",
    ),
)  # fmt: skip


def personal_columns() -> tuple[str, ...]:
    """The columns that erasure empties."""
    return tuple(field.column for field in FIELDS if field.personal)


def fields_of(source: Source) -> tuple[Field, ...]:
    """The fields that a source sends."""
    return tuple(field for field in FIELDS if source in field.group.sources)


def columns_of(source: Source) -> tuple[str, ...]:
    """The columns of the fields that a source sends."""
    return tuple(field.column for field in fields_of(source))


def columns_in(group: Group) -> tuple[str, ...]:
    """The columns of the fields of a group."""
    return tuple(field.column for field in FIELDS if field.group == group)


# The columns of models in CSV and JSON, the most important first.
_FIRST = ("id", "status", "title", "email", "team_name", "team_id")
EXPORT_COLUMNS = (*_FIRST, *(name for name in columns_of(Source.LIST) if name not in _FIRST), "deleted_at")
