"""The mirror in memory, on a clock that jumps: drain, pull, refetch and sweep as the service does them, for one model.

The service's own pure code decides; only the tables are dictionaries, and nothing waits.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from service.mirror.deletions import proves_deletion
from service.mirror.merge import DELETED
from service.mirror.merging_batch import MergingBatch
from service.mirror.observe import from_absence, from_list, from_single, from_webhook
from service.storage.models import CLOCK_COLUMNS
from service.storage.refetches import REFETCH_DELAY
from tests.support.world import MODEL_ID, detailed_model, listed_model, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.mirror.merge import Observation
    from tests.support.world import Delivery, RelayedResponse, World

LONG_AGO = datetime.min.replace(tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
TOLERANCE = timedelta(seconds=300)
HOT = ("onboarding", "waiting", "pending", "generatingHeadshots", "failed")


class MemoryMirror:
    """A mirror of one model; `run` does what is on the agenda, each at its time.

    Attributes:
        now: milliseconds of the vendor's clock.
        row: the visible row; None before the first observation.
        clocks: the row of `model_clocks`.
        wanted_after: the upstream time that an answer has to be younger than (None: any), under `wanted_due`.
        wanted_due: from when the question may be asked; None where there is none.
        gets: single GETs that questions have cost.
        read: as of when the youngest answer that was merged was true, in milliseconds of the vendor's clock.
        read_single: the same of single GETs alone.
        log: what happened, for the one who reads a failure.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.now = 0
        self.row: Mapping[str, Any] | None = None
        self.clocks: dict[str, Any] = dict.fromkeys(CLOCK_COLUMNS)
        self.wanted_after: datetime | None = None
        self.wanted_due: int | None = None
        self.attempts = 0
        self.gets = 0
        self.read = self.read_single = -1
        self.log: list[str] = []
        self._inbox: list[Delivery] = []
        self._processed: set[Any] = set()
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(ms, self.now), next(self._numbers), what))

    def run(self) -> None:
        """Do everything that is on the agenda, in order of time."""
        while self._agenda:
            self.now, _, what = heapq.heappop(self._agenda)
            what()

    # --- drain

    def deliver(self, delivery: Delivery) -> None:
        """An event is in the inbox; a drain takes it soon, with whatever else is there by then."""
        self._inbox.append(delivery)
        self.at(self.now + self.rng.choice((0, 50, 5_000)), self._drain)

    def _drain(self) -> None:
        entries, self._inbox = self._inbox, []
        fresh = {}
        for entry in entries:
            identity = entry.webhook.event_id or (entry.signed_at, entry.webhook.event, entry.change)
            if identity not in self._processed:
                fresh[identity] = entry
        self._processed |= set(fresh)
        self.apply([from_webhook(e.webhook, e.model, e.signed_at, TOLERANCE) for e in fresh.values()], "webhook")

    # --- apply, refetch requests

    def apply(self, seen: list[Observation], source: str) -> None:
        if not seen:
            return
        rows = {MODEL_ID: self.row} if self.row else {}
        batch = MergingBatch(rows, {MODEL_ID: self.clocks}, len(seen), source, moment(self.now))
        for place, observation in sorted(enumerate(seen), key=lambda pair: pair[1].at):
            batch.take(place, observation)
            self.log.append(f"{self.now:>7} {source}: {observation}")
        self.clocks = batch.moved_clocks().get(MODEL_ID, self.clocks)
        self.row = batch.rows.get(MODEL_ID, self.row)
        for request in batch.refetch_requests():
            self._ask(request.after, request.due_at)

    def _ask(self, after: datetime | None, due_at: datetime) -> None:
        """One question about the model: the younger time counts."""
        due = _ms(due_at)
        if self.wanted_due is None:
            self.wanted_after, self.wanted_due, self.attempts = after, due, 0
        elif after is not None and (self.wanted_after is None or after > self.wanted_after):
            self.wanted_after, self.wanted_due = after, due
        else:
            return
        self.log.append(f"{self.now:>7} asks for a GET sent after {after}")
        self.at(due, self._refetch)

    def _settle(self, sent_at: datetime) -> None:
        if self.wanted_due is not None and (self.wanted_after is None or self.wanted_after < sent_at):
            self.wanted_after = self.wanted_due = None

    def _postpone(self, seconds: float) -> None:
        if self.wanted_due is not None:
            self.wanted_due = self.now + int(seconds * 1_000)
            self.at(self.wanted_due, self._refetch)

    # --- refetch

    def _refetch(self) -> None:
        if self.wanted_due is None or self.wanted_due > self.now:
            return
        self.attempts += 1
        self.wanted_due = self.now + 30_000
        self.gets += 1
        self._get(self._answered, self._missing)

    def _get(self, found: Callable[[RelayedResponse], None], missing: Callable[[RelayedResponse], None]) -> None:
        answer = self.world.answer(self.now)
        commit = answer.done + self.rng.choice((0, 20, 3_000))
        self.at(commit, lambda: missing(answer) if answer.state is None else found(answer))

    def _merge_single(self, answer: RelayedResponse, source: str) -> None:
        self.apply([_single(answer)], source)
        self._settle(answer.sent_at)
        self.read = max(self.read, answer.read)
        self.read_single = max(self.read_single, answer.read)

    def _answered(self, answer: RelayedResponse) -> None:
        self._merge_single(answer, "refetch")
        self._postpone(min(2.0**self.attempts, 900))

    def _missing(self, answer: RelayedResponse) -> None:
        self.log.append(f"{self.now:>7} refetch: 404 as of {answer.sent_at}")
        buried = self.row is not None and self.row["status"] == DELETED
        if buried:
            self._settle(answer.sent_at)
        # The question about a live model stays until a full pull decides; by this many tries every event has come.
        if buried or self.attempts < 8:
            self._postpone(min(4.0 * 2**self.attempts, 900))

    # --- sweep

    def sweep(self) -> None:
        """A single GET without a refetch request."""
        self._get(self._swept, lambda answer: None)

    def _swept(self, answer: RelayedResponse) -> None:
        self._merge_single(answer, "refetch")

    # --- pulls

    def full_pull(self) -> None:
        """Some pages, one of which is the model's; then, if it was not shown, its suspicion."""
        self._walk(self.rng.randint(1, 3), self._suspect)

    def hot_pull(self) -> None:
        """A walk for each status that still changes; a model that left them is asked about."""
        self._hot(HOT, LONG_AGO)

    def _hot(self, statuses: tuple[str, ...], began_at: datetime) -> None:
        if statuses:
            self._walk(1, lambda began: self._hot(statuses[1:], began), began_at, statuses[0])
        elif self._not_shown(began_at) and self._left_hot(began_at):
            self._ask(began_at, moment(self.now) + REFETCH_DELAY)

    def _walk(
        self, pages: int, then: Callable[[datetime], None], began_at: datetime = LONG_AGO, status: str | None = None
    ) -> None:
        """Walk over some pages, the last of which is the model's; `then` is called with the pull's start."""
        shown = self.clocks["profile_at"]
        placed = max(began_at, shown + MICROSECOND if shown else LONG_AGO)

        def page(left: int, began: datetime, placed: datetime) -> None:
            answer = self.world.answer(self.now)
            # No older than what was read before it, whatever the whole seconds of `Date` say.
            sent_at = min(max(answer.sent_at, placed), answer.received_at)
            began = sent_at if began == LONG_AGO else began
            self.at(answer.done + self.rng.choice((0, 20, 3_000)), lambda: commit(left, began, sent_at, answer))

        def commit(left: int, began: datetime, sent_at: datetime, answer: RelayedResponse) -> None:
            if left > 1:
                page(left - 1, began, sent_at)
            else:
                self._merge_row(answer, sent_at, status)
                then(began)

        page(pages, began_at, placed)

    def _merge_row(self, answer: RelayedResponse, sent_at: datetime, status: str | None) -> None:
        """The model as its page shows it, where the filter lets it through."""
        state = answer.state
        if state is None or status not in (None, state.status):
            return
        self.apply([from_list(listed_model(state), sent_at, answer.received_at)], "pull")
        self.read = max(self.read, answer.read)
        if self.wanted_after is None:
            self.wanted_due = None

    def _suspect(self, began_at: datetime) -> None:
        if self._not_shown(began_at) and self.row and self.row["status"] != DELETED:
            self._get(self._alive, self._gone)

    def _alive(self, answer: RelayedResponse) -> None:
        self._merge_single(answer, "pull")

    def _gone(self, answer: RelayedResponse) -> None:
        assert self.row is not None
        if proves_deletion(MODEL_ID, self.row["created_at"], answer.sent_at, answer.received_at):
            self.apply([from_absence(MODEL_ID, answer.sent_at)], "pull")
            self._settle(answer.sent_at)

    def _not_shown(self, began_at: datetime) -> bool:
        if self.row is None:
            return False
        shown, created = self.clocks["profile_at"], self.row["created_at"]
        return (shown is None or shown < began_at) and (created is None or created < began_at)

    def _left_hot(self, began_at: datetime) -> bool:
        assert self.row is not None
        return self.row["status"] in HOT and self.clocks["core_at"] < began_at


def _single(answer: RelayedResponse) -> Observation:
    assert answer.state is not None
    return from_single(MODEL_ID, detailed_model(answer.state), answer.sent_at, answer.received_at)


def _ms(time: datetime) -> int:
    return int((time - moment(0)) / timedelta(milliseconds=1)) + 1
