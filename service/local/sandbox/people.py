"""Plausible people, and the models that they have had made before the sandbox was first started."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.local.sandbox.lifecycle import FLOW, LIFETIME_MS, PHOTO_COUNTS, status_duration_ms
from service.local.sandbox.model import VendorModel, iso, object_id

if TYPE_CHECKING:
    from collections.abc import Container
    from random import Random

    from service.local.sandbox.account import VendorOrganization

# By trigger, the vendor's word for the chosen gender.
FIRST_NAMES = {
    "female": (
        "Ada Amina Ana Beatriz Chiara Dilara Elif Emma Fatima Freya Grace Hana Ines Ingrid Isla Joan Katarina "
        "Layla Lena Lucia Maya Mei Nadia Noor Olivia Priya Rosa Ruth Sakura Salma Sofia Tara Thandi Valentina "
        "Yara Zoe"
    ),
    "male": (
        "Adam Ahmed Alan Anton Arjun Ben Carlos Chen Daniel David Diego Emre Finn Hassan Henrik Hiro Igor Ivan "
        "Jakub James Kofi Lars Liam Luca Marco Mateo Noah Omar Oscar Pablo Ravi Samuel Sven Tomas Viktor Yusuf"
    ),
}
SURNAMES = (
    "Abbott Adeyemi Alvarez Andersson Baker Bauer Bianchi Brown Chowdhury Costa Demir Diallo Dubois Eriksen "
    "Evans Fischer Garcia Gupta Haddad Hansen Hoffmann Ito Ivanov Jansen Jensen Kaya Khan Kim Kowalski Lee "
    "Lopez Martin Mensah Meyer Moreau Mueller Nakamura Nguyen Novak Okafor Okoye Olsen Patel Pereira Petrov "
    "Quinn Ramos Rossi Santos Sato Schmidt Silva Singh Smith Suzuki Tanaka Torres Tran Visser Walker Wang "
    "Weber Yilmaz Zhang"
)

# How an organization of some age looks: mostly done, some under way, some in trouble.
MIX = {"active": 90, "onboarding": 3, "waiting": 1, "pending": 2, "generatingHeadshots": 2, "failed": 2}
AGE_MS = 400 * 24 * 3600 * 1000
INVITATION_MS = 14 * 24 * 3600 * 1000


class Person(NamedTuple):
    name: str
    email: str
    trigger: str


class PersonGenerator:
    """Draws people with addresses that are not in use."""

    def __init__(self, rng: Random, domain: str) -> None:
        self._rng = rng
        self._domain = domain
        self._first_names = {trigger: names.split() for trigger, names in FIRST_NAMES.items()}
        self._surnames = SURNAMES.split()
        self._namesakes: dict[str, int] = {}

    def draw(self, taken: Container[str]) -> Person:
        """A person whose address is not among those that are taken."""
        trigger = draw_trigger(self._rng)
        first = self._rng.choice(self._first_names[trigger])
        last = self._rng.choice(self._surnames)
        mailbox = f"{first}.{last}".lower()
        while True:
            number = self._namesakes[mailbox] = self._namesakes.get(mailbox, 0) + 1
            email = f"{mailbox}{number if number > 1 else ''}@{self._domain}"
            if email not in taken:
                return Person(f"{first} {last}", email, trigger)


def draw_trigger(rng: Random) -> str:
    """The gender that a person chose."""
    return rng.choice(tuple(FIRST_NAMES))


def population(
    size: int, organization: VendorOrganization, rng: Random, *, now: int, speed: float
) -> list[VendorModel]:
    """Make the models that exist at first: none is deleted; they began in the 400 days before `now` (milliseconds)."""
    people = PersonGenerator(rng, organization.domain)
    statuses = rng.choices(list(MIX), list(MIX.values()), k=size)
    return [_settled(people.draw(()), status, organization, rng, now=now, speed=speed) for status in statuses]


def _settled(
    person: Person, status: str, organization: VendorOrganization, rng: Random, *, now: int, speed: float
) -> VendorModel:
    under_way = status in FLOW
    # Half of what moves moves fast, so that people who watch see it.
    is_development = under_way and rng.random() < 0.5
    lifetime = LIFETIME_MS[is_development]
    created = now - (rng.randrange(lifetime * 3 // 4) if under_way else rng.randrange(2 * lifetime, AGE_MS))
    is_active = status == "active"
    return VendorModel(
        id=object_id(rng, created),
        uid=f"anon_{rng.getrandbits(48):012x}",
        email=person.email,
        title=person.name,
        trigger=person.trigger,
        status=status,
        created_at=iso(created),
        team_id=draw_team(organization, rng),
        is_development=is_development,
        finished_at=iso(created + rng.randrange(lifetime // 2, lifetime * 3 // 2)) if is_active else None,
        invite_expires_at=iso(created + INVITATION_MS),
        photo_count=rng.choice(PHOTO_COUNTS) if is_active else 0,
        favorite_photo_id=object_id(rng, created + lifetime) if is_active and rng.random() < 0.6 else None,
        due=now + int(rng.random() * status_duration_ms(status, rng, speed, is_development=is_development))
        if under_way
        else None,
    )


def draw_team(organization: VendorOrganization, rng: Random) -> str | None:
    """One of the teams; one in nine people has none."""
    return rng.choice((*(team.id for team in organization.teams), None))
