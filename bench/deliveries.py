"""What benches feed a mirror with: an organization as a pull left it, and a stream of webhooks about it.

The mix is that of an organization at work: most events move models that are known, some tell of new ones, some delete,
some announce what only a GET can read, some come late, and some come twice. Seeded: each side gets the same bytes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES = ("onboarding", "waiting", "pending", "generatingHeadshots", "active")
ORGANIZATION = "64f0aa11bb22cc33dd44ee55"
# Shares of the stream; the rest are status updates of known models.
NEW, GONE, ANNOUNCED, LATE, AGAIN = 0.08, 0.03, 0.04, 0.02, 0.05
# How far back a redelivery reaches, and how late a late event is.
RECENT = 2_000
LATE_BY = timedelta(minutes=30)
# Known models were pulled so long ago; the stream began half of that ago.
AGE = timedelta(hours=6)

EMPTY = """
    truncate headshotpro.models, headshotpro.model_clocks, headshotpro.model_changes, headshotpro.webhook_events,
        headshotpro.refetch_requests, headshotpro.event_spool
"""
FILL = (
    """
    insert into headshotpro.models (id, uid, email, title, status, team_id, team_name, is_development, created_at,
        observed_at, updated_at)
    select id, 'anon_' || n, 'person' || n || '@example.com', 'Person ' || n, 'onboarding',
        'team_' || n %% 20, 'Team ' || n %% 20, false, %(at)s - interval '1 day', %(at)s, %(at)s
    from unnest(%(ids)s::text[]) with ordinality as known (id, n)
    """,
    """
    insert into headshotpro.model_clocks (model_id, core_at, profile_at, observed_until)
    select id, %(at)s, %(at)s, %(at)s from unnest(%(ids)s::text[]) as known (id)
    """,
    """
    insert into headshotpro.model_changes (model_id, to_status, changed, source, observed_at, recorded_at)
    select id, status, '{"status": [null, "onboarding"]}', 'pull', observed_at, updated_at from headshotpro.models
    """,
)


class Organization:
    """Models that were pulled, and what is told of them since.

    Args:
        models: how many are known.
        seed: of its randomness.
    """

    def __init__(self, models: int, seed: int = 1) -> None:
        self._rng = Random(seed)
        self._now = datetime.now(UTC).replace(microsecond=0)
        self.pulled_at = self._now - AGE
        self.ids = [self._new_id() for _ in range(models)]

    def fill(self, url: str) -> None:
        """Empty the mirror and put the known models into it, as a pull would have."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(EMPTY)
            for statement in FILL:
                connection.execute(statement.encode(), {"ids": self.ids, "at": self.pulled_at})
            # What Postgres does by itself a moment later; and each side begins with an empty log.
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    def stream(self, events: int) -> list[bytes]:
        """Raw bodies, in the order of their deliveries; redeliveries are among them."""
        bodies: list[bytes] = []
        stages: dict[str, int] = {}
        ids = list(self.ids)
        for number in range(events):
            at = self.pulled_at + AGE * (0.5 + 0.49 * number / events)
            if bodies and self._rng.random() < AGAIN:
                bodies.append(bodies[-self._rng.randint(1, min(RECENT, len(bodies)))])
            else:
                bodies.append(json.dumps(self._event(number, at, ids, stages), separators=(",", ":")).encode())
        return bodies

    def _event(self, number: int, at: datetime, ids: list[str], stages: dict[str, int]) -> dict[str, object]:
        """One event; what it does to its model is remembered for the next one."""
        dice = self._rng.random()
        if dice < NEW:
            ids.append(self._new_id())
            return self._body(number, "model.created", ids[-1], at, "onboarding")
        place = self._rng.randrange(len(ids))
        model_id = ids[place]
        if dice < NEW + GONE:
            ids[place] = ids[-1]
            ids.pop()
            return self._body(number, "model.deleted", model_id, at, "deleted")
        if dice < NEW + GONE + ANNOUNCED:
            return self._body(number, "model.photos_ready", model_id, at, self._status(stages, model_id))
        if dice < NEW + GONE + ANNOUNCED + LATE:
            return self._body(number, "model.status.updated", model_id, at - LATE_BY, self._status(stages, model_id))
        stages[model_id] = stages.get(model_id, 0) + 1
        return self._body(number, "model.status.updated", model_id, at, self._status(stages, model_id))

    @staticmethod
    def _status(stages: dict[str, int], model_id: str) -> str:
        return STATUSES[stages.get(model_id, 0) % len(STATUSES)]

    def _body(self, number: int, event: str, model_id: str, at: datetime, status: str) -> dict[str, object]:
        """A body with every field of the vendor's page."""
        return {
            "id": f"evt_{self._rng.getrandbits(96):024x}{number:08x}",
            "event": event,
            "createdAt": _iso(at),
            "objectType": "model",
            "object": {
                "_id": model_id,
                "uid": f"anon_{model_id[-6:]}",
                "title": f"Person {model_id[-6:]}",
                "trigger": "female" if int(model_id[-1], 16) % 2 else "male",
                "status": status,
                "isDevelopment": False,
                "finishedAt": _iso(at) if status == "active" else None,
                "deletedAt": _iso(at) if status == "deleted" else None,
                "inviteExpiresAt": None,
                "createdAt": _iso(self.pulled_at - timedelta(days=1)),
                "organization": ORGANIZATION,
            },
        }

    def _new_id(self) -> str:
        return f"{int(self.pulled_at.timestamp()) - 86_400:08x}{self._rng.getrandbits(64):016x}"


def batches(bodies: list[bytes], size: int) -> Iterator[list[bytes]]:
    """The stream in batches."""
    for begin in range(0, len(bodies), size):
        yield bodies[begin : begin + size]


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
