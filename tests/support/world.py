"""A model's true life and the vendor that reports it, for the search of the merge: seeded, without clocks or sockets.

All times are milliseconds of the vendor's clock since `BASE`. The vendor does what UPSTREAM.md allows and worse: it
loses, delays, repeats and reorders webhooks, leaves out fields and times, signs late, answers from replicas that lag.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from service.upstream.payloads import DetailedModel, ListedModel, WebhookBody, WebhookModel

if TYPE_CHECKING:
    from random import Random

BASE = datetime(2024, 1, 15, 12, tzinfo=UTC)
MODEL_ID = f"{int(BASE.timestamp()):08x}00000000000000a1"
FLOW = {"onboarding": "waiting", "waiting": "pending", "pending": "generatingHeadshots", "failed": "pending"}
# The margins of an answer's interval.
BEFORE = timedelta(seconds=2)
AFTER = timedelta(seconds=1)
GAPS = (0, 1, 50, 400, 900, 1_500, 4_000)


def moment(ms: int) -> datetime:
    return BASE + timedelta(milliseconds=ms)


@dataclass(frozen=True)
class ModelState:
    """Everything that is true of the model at one time."""

    status: str
    created_at: datetime
    title: str = "title 0"
    email: str = "ann@example.com"
    team_id: str | None = None
    finished_at: datetime | None = None
    deleted_at: datetime | None = None
    trigger: str | None = None
    photo_count: int = 0
    favorite_photo_id: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class VendorHabits:
    """How bad the vendor is in one history: times in milliseconds, the rest are shares.

    Attributes:
        listed: deleted models stay in the list.
        offset: by how much the clock of `createdAt` is ahead of that of `Date`.
        jitter: by how much each `createdAt` may be off beyond that, both ways.
        lag: how far a replica may be behind.
        slow: how long a request may take on each way.
        loss: of events, never delivered at all.
        repeats: of deliveries, made again.
        late: how late an event may be sent.
        bare: of events, without id and time.
        absent: of an event's fields, left out.
        signs_anew: each try has a signature of its own time.
        shows_present: an event shows the model as it is when it is sent, not as it was when it happened.
        outage: from when to when nothing is in the list and every GET says 404.
    """

    listed: bool = False
    offset: int = 0
    jitter: int = 0
    lag: int = 0
    slow: int = 300
    loss: float = 0.0
    repeats: float = 0.0
    late: int = 100
    bare: float = 0.0
    absent: float = 0.0
    signs_anew: bool = True
    shows_present: bool = False
    outage: tuple[int, int] = (0, 0)


class Change(NamedTuple):
    """One change of the truth and the events that announce it."""

    at: int
    state: ModelState
    events: tuple[str, ...]


class Delivery(NamedTuple):
    """One delivery of an event: when it arrives, what it says, which change it announces."""

    arrives: int
    webhook: WebhookBody
    model: WebhookModel
    signed_at: datetime
    change: int


class RelayedResponse(NamedTuple):
    """An answer of the API.

    Attributes:
        sent_at: lower end of the interval that a client makes of it.
        received_at: upper end of it.
        done: when it was there.
        read: as of when it was read from the vendor's data.
        state: what it shows; None is a 404, or that the list does not show the model.
    """

    sent_at: datetime
    received_at: datetime
    done: int
    read: int
    state: ModelState | None


@dataclass
class World:
    """One true history, the habits of the vendor that reports it, and everything it will deliver."""

    rng: Random
    habits: VendorHabits
    changes: list[Change] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._live()
        self._starts = [change.at for change in self.changes]
        for number, change in enumerate(self.changes):
            for event in change.events:
                self._announce(number, change, event)

    @property
    def truth(self) -> ModelState:
        return self.changes[-1].state

    @property
    def quiet_from(self) -> int:
        """When the last change has happened."""
        return self.changes[-1].at

    def state(self, at: int) -> ModelState | None:
        """The true state at a time; None before the birth."""
        place = bisect_right(self._starts, at)
        return self.changes[place - 1].state if place else None

    def answer(self, sent: int) -> RelayedResponse:
        """Answer a request: read from a replica at some moment, dated in whole seconds."""
        rng = self.rng
        worked = sent + rng.randint(0, self.habits.slow)
        dated = worked + rng.randint(0, 50)
        done = dated + rng.randint(0, self.habits.slow)
        date = moment(dated).replace(microsecond=0)
        elapsed = timedelta(milliseconds=done - sent)
        read = worked - rng.randint(0, self.habits.lag)
        state = self.state(read)
        begins, ends = self.habits.outage
        hidden = state is None or (state.gone and not self.lists(state)) or begins <= worked < ends
        shown = None if hidden else state
        # As `service.upstream.headers.interval` has it.
        return RelayedResponse(date - elapsed - BEFORE, date + elapsed + AFTER, done, read, shown)

    def lists(self, state: ModelState) -> bool:
        return self.habits.listed and state.deleted_at is not None

    def _live(self) -> None:
        """Draw the life: steps, unannounced edits, favourites, and for some a death."""
        rng, now = self.rng, self.rng.randint(0, 1_500)
        state = ModelState("onboarding", created_at=moment(now))
        self.changes.append(Change(now, state, ("model.created",)))
        now += rng.choice((0, 20_000))
        for _ in range(rng.randint(0, 6)):
            now += rng.choice(GAPS)
            state, events = rng.choice((*[_step] * 8, _edit, _edit, _move, _pick))(rng, state, now)
            self.changes.append(Change(now, state, events))
        if rng.random() < 0.4:
            now += rng.choice(GAPS)
            self.changes.append(_death(rng, state, now))

    def _announce(self, number: int, change: Change, event: str) -> None:
        """Deliver an event once, several times or never."""
        rng, habits = self.rng, self.habits
        if rng.random() < habits.loss:
            return
        sent = signed = change.at + rng.randint(0, 300) + rng.randint(0, habits.late)
        shown = (self.state(sent) if habits.shows_present else None) or change.state
        webhook, model = self._webhook(number, change, event), _webhook_model(rng, shown, habits.absent)
        while True:
            signed_at = moment(signed).replace(microsecond=0)
            self.deliveries.append(Delivery(sent + rng.randint(0, 200), webhook, model, signed_at, number))
            if rng.random() >= habits.repeats:
                return
            sent += rng.choice((0, 10, 1_000, 300_000))
            signed = sent if habits.signs_anew else signed

    def _webhook(self, number: int, change: Change, event: str) -> WebhookBody:
        rng, habits = self.rng, self.habits
        bare = rng.random() < habits.bare
        created_at = moment(change.at + habits.offset + rng.randint(-habits.jitter, habits.jitter))
        return WebhookBody(
            event=event,
            event_id=None if bare else f"evt-{number}-{event}",
            created_at=None if bare else created_at,
        )


def draw_world(rng: Random, *, skewed: bool = False) -> World:
    """A world with random habits: each is off in many histories, so that every mixture occurs.

    Args:
        rng: where all chance comes from.
        skewed: `createdAt` may be off by a second, which is more than the design promises to bear.
    """

    def often(*values: Any) -> Any:
        return rng.choice(values)

    return World(
        rng,
        VendorHabits(
            listed=rng.random() < 0.5,
            # The margin before an answer is 2 s: with a replica 1.5 s behind, half a second is left for slow clocks.
            offset=often(0, 0, rng.randint(-1_000, 1_000) if skewed else rng.randint(-500, 0)),
            jitter=often(0, 0, 1_000) if skewed else 0,
            lag=often(0, 0, 1_500),
            slow=often(20, 300, 4_000),
            loss=often(0.0, 0.0, 0.3),
            repeats=often(0.0, 0.3),
            late=often(0, 1_000, 60_000),
            bare=often(0.0, 0.0, 0.5, 1.0),
            absent=often(0.0, 0.0, 0.3),
            signs_anew=rng.random() < 0.5,
            shows_present=rng.random() < 0.2,
            outage=often(*[(0, 0)] * 6, (1_000, 9_000), (22_000, 30_000)),
        ),
    )


def listed_model(state: ModelState) -> ListedModel:
    return ListedModel(**_api_fields(state))


def detailed_model(state: ModelState) -> DetailedModel:
    return DetailedModel(**_api_fields(state), photo_count=state.photo_count, favorite_photo_id=state.favorite_photo_id)


def _api_fields(state: ModelState) -> dict[str, Any]:
    return {
        "id": MODEL_ID,
        "uid": "anon_1",
        "email": state.email,
        "title": state.title,
        "status": state.status,
        "team_id": state.team_id,
        "team_name": state.team_id and f"Team {state.team_id}",
        "is_development": False,
        "created_at": state.created_at,
        "finished_at": state.finished_at,
    }


def _webhook_model(rng: Random, state: ModelState, absent: float) -> WebhookModel:
    fields: dict[str, Any] = {
        "uid": "anon_1",
        "title": state.title,
        "trigger": state.trigger,
        "status": state.status,
        "is_development": False,
        "finished_at": state.finished_at,
        "deleted_at": state.deleted_at,
        "created_at": state.created_at,
        "organization_id": "org1",
    }
    present = {name: value for name, value in fields.items() if rng.random() >= absent}
    return WebhookModel(object_id=MODEL_ID, **present)


def _step(rng: Random, state: ModelState, now: int) -> tuple[ModelState, tuple[str, ...]]:
    """The life goes on; what is active fails and starts again, so that statuses come back."""
    if state.status == "generatingHeadshots" and rng.random() < 0.5:
        ready = replace(state, status="active", finished_at=moment(now), photo_count=rng.choice((40, 80)))
        return ready, ("model.status.updated", "model.photos_ready")
    status = "failed" if rng.random() < 0.3 else FLOW.get(state.status, "failed")
    trigger = state.trigger or rng.choice((None, "male", "female"))
    return replace(state, status=status, trigger=trigger), ("model.status.updated",)


def _edit(rng: Random, state: ModelState, now: int) -> tuple[ModelState, tuple[str, ...]]:
    return replace(state, title=f"title {rng.randint(0, 3)}"), ()


def _move(rng: Random, state: ModelState, now: int) -> tuple[ModelState, tuple[str, ...]]:
    return replace(state, team_id=rng.choice((None, "t1", "t2"))), ()


def _pick(rng: Random, state: ModelState, now: int) -> tuple[ModelState, tuple[str, ...]]:
    return replace(state, favorite_photo_id=f"photo {rng.randint(0, 3)}"), ("model.favorite_selected",)


def _death(rng: Random, state: ModelState, now: int) -> Change:
    """Announced, or gone without a trace."""
    if rng.random() < 0.3:
        return Change(now, replace(state, status="deleted", gone=True), ())
    return Change(now, replace(state, status="deleted", gone=True, deleted_at=moment(now)), ("model.deleted",))
