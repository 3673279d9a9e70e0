"""An organization as a pull left it, and a stream of webhooks about it, seeded: each side gets the same bytes.

The mix is that of an organization at work: most events move known models, some report new ones or deletions, some
announce what only a GET can read, some come late, and some come twice.
"""

import json
from datetime import UTC, datetime, timedelta
from random import Random

import psycopg

from tests.support.webhooks import WHOLE

STATUSES = ("onboarding", "waiting", "pending", "generatingHeadshots", "active")
# Shares of the stream; the rest are status updates of known models.
NEW, DELETED, ANNOUNCED, LATE, AGAIN = 0.08, 0.03, 0.04, 0.02, 0.05
# How far back a redelivery reaches, and how late a late event is.
RECENT = 2_000
LATE_BY = timedelta(minutes=30)
AGE_OF_PULL = timedelta(hours=6)
FILL = (
    """
    truncate headshotpro.models, headshotpro.model_clocks, headshotpro.model_changes, headshotpro.webhook_events,
        headshotpro.refetch_requests, headshotpro.event_spool
    """,
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
    # Postgres would do both by itself a moment later, in the turn of another side.
    "vacuum analyze",
    "checkpoint",
)


class Organization:
    """Models that were pulled, given by their ids or number, and the events about them since."""

    def __init__(self, models: int | list[str], seed: int = 1) -> None:
        self._rng = Random(seed)
        self._pulled_at = datetime.now(UTC).replace(microsecond=0) - AGE_OF_PULL
        self._ids = models if isinstance(models, list) else [self._new_id() for _ in range(models)]

    def fill(self, url: str) -> None:
        """Empty the mirror and put the known models into it, as a pull would have."""
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in FILL:
                connection.execute(statement.encode(), {"ids": self._ids, "at": self._pulled_at})

    def stream(self, events: int) -> list[bytes]:
        """Raw bodies in the order of their deliveries, a millisecond apart until now, redeliveries among them."""
        now = datetime.now(UTC)
        bodies: list[bytes] = []
        stages: dict[str, int] = {}
        ids = list(self._ids)
        for number in range(events):
            at = now - timedelta(milliseconds=events - number)
            if bodies and self._rng.random() < AGAIN:
                bodies.append(bodies[-self._rng.randint(1, min(RECENT, len(bodies)))])
            else:
                bodies.append(self._event(at, ids, stages))
        return bodies

    def _event(self, at: datetime, ids: list[str], stages: dict[str, int]) -> bytes:
        """One event with every field of the vendor's page; its effect on the model is remembered for the next one."""
        dice, place = self._rng.random(), self._rng.randrange(len(ids))
        kind = "model.status.updated"
        if dice < NEW:
            kind, place = "model.created", len(ids)
            ids.append(self._new_id())
        elif dice < NEW + DELETED:
            kind = "model.deleted"
        elif dice < NEW + DELETED + ANNOUNCED:
            kind = "model.photos_ready"
        elif dice < NEW + DELETED + ANNOUNCED + LATE:
            at -= LATE_BY
        else:
            stages[ids[place]] = stages.get(ids[place], 0) + 1
        model_id = ids[place]
        status = "deleted" if kind == "model.deleted" else STATUSES[stages.get(model_id, 0) % len(STATUSES)]
        if status == "deleted":
            ids[place] = ids[-1]
            ids.pop()
        time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        known = {"_id": model_id, "uid": f"anon_{model_id[-6:]}", "title": f"Person {model_id[-6:]}", "status": status}
        times = {"finishedAt": time if status == "active" else None, "deletedAt": time if status == "deleted" else None}
        event = {"id": f"evt_{self._rng.getrandbits(128):032x}", "event": kind, "createdAt": time}
        return json.dumps({**WHOLE, **event, "object": {**WHOLE["object"], **known, **times}}).encode()

    def _new_id(self) -> str:
        return f"{int(self._pulled_at.timestamp()) - 86_400:08x}{self._rng.getrandbits(64):016x}"
