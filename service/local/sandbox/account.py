"""Whose key it is: the organization, its teams, its secrets, and what it has left to spend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random

COMPANIES = ("Northwind", "Contoso", "Initech", "Umbrella", "Hooli", "Globex", "Vandelay", "Stark")
TEAMS = ("Marketing", "Sales", "Engineering", "Finance", "People", "Support", "Legal", "Design")


class VendorTeam(msgspec.Struct, frozen=True):
    name: str
    id: str


class VendorOrganization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An organization.

    Attributes:
        uid: what the API calls it.
        id: what webhooks call it: not the same.
    """

    uid: str
    id: str
    name: str
    website: str
    teams: tuple[VendorTeam, ...]

    @property
    def domain(self) -> str:
        """Where its people get their mail."""
        return self.website.removeprefix("https://")

    @property
    def team_names(self) -> dict[str, str]:
        """Names by team id."""
        return {team.id: team.name for team in self.teams}


class Account(msgspec.Struct, kw_only=True):
    """Everything of the kept state that is neither a model nor a delivery.

    Its key and secret are not seeded: they are secrets, if small ones.

    Attributes:
        credits: models that may still be created through the API (development models cost none).
        seed: seeds every chance of this sandbox.
        starts: how often it was started: a restart must not draw the same ids again.
    """

    organization: VendorOrganization
    api_key: str
    webhook_secret: str
    webhook_url: str | None = None
    credits: int
    seed: int
    starts: int = 0


def new_organization(rng: Random) -> VendorOrganization:
    """An organization with eight teams, the same for the same seed."""
    name = rng.choice(COMPANIES)
    teams = tuple(VendorTeam(team, f"team_{rng.getrandbits(32):08x}") for team in TEAMS)
    return VendorOrganization(
        uid=f"org_{rng.getrandbits(48):012x}",
        id=f"64b7{rng.getrandbits(80):020x}",
        name=f"{name} Ltd",
        website=f"https://{name.lower()}.example",
        teams=teams,
    )
