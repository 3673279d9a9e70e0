"""The models as the API shows them: the order of the list, its pages, and the lag of a replica."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING

from service.local.sandbox.model import id_of

if TYPE_CHECKING:
    from random import Random

    from service.local.sandbox.model import VendorModel
    from service.local.sandbox.switches import Switches


# The longest lag that the switch allows; older notes are of no use to anyone.
LONGEST_LAG_MS = 60_000


class VendorListing:
    """The list as arrays of keys, ascending in creation, so that a page is a slice however many models there are."""

    def __init__(self, models: dict[str, VendorModel], switches: Switches) -> None:
        self._models = models
        self._switches = switches
        # By status; under None those of every status.
        self._keys: dict[str | None, list[str]] = {None: []}
        # When each model changed and what that replaced, None where it is new: a replica that lags still shows that.
        self._replaced: deque[tuple[int, str, VendorModel | None]] = deque()

    def rebuild(self) -> None:
        """Put the list together anew: at the start, and when the switch `deleted` was turned."""
        self._keys = {None: []}
        for model in sorted(self._models.values(), key=lambda model: model.key):
            for group in self._groups(model):
                self._keys.setdefault(group, []).append(model.key)

    def replace(self, old: VendorModel | None, new: VendorModel, now: int) -> None:
        """A model is new or has changed, at `now` (milliseconds)."""
        while self._replaced and self._replaced[0][0] < now - LONGEST_LAG_MS:
            self._replaced.popleft()
        self._replaced.append((now, new.id, old))
        if old is not None:
            for group in self._groups(old):
                del self._keys[group][bisect_left(self._keys[group], old.key)]
        for group in self._groups(new):
            insort(self._keys.setdefault(group, []), new.key)

    def find(self, model_id: str, moment: int | None = None) -> VendorModel | None:
        """The document of the single GET: now, or as of a moment (milliseconds) on a replica that lags."""
        past = self._past(moment)
        model = past[model_id] if model_id in past else self._models.get(model_id)
        return model if model is not None and self._shows(model) else None

    def page(
        self,
        offset: int,
        limit: int,
        *,
        status: str | None = None,
        team_id: str | None = None,
        moment: int | None = None,
    ) -> tuple[list[VendorModel], int]:
        """A page of the list, and the list's length: now, or as of a moment (milliseconds) on a replica that lags."""
        past = self._past(moment)
        keys = self._as_of(past, status) if past else self._keys.get(status, [])
        if team_id is not None:
            keys = [key for key in keys if self._model_at(key, past).team_id == team_id]
        return [self._model_at(key, past) for key in self._slice(keys, offset, limit)], len(keys)

    def pick(self, rng: Random) -> VendorModel | None:
        """Any live model, or None where twenty tries found none."""
        keys = self._keys[None]
        for _ in range(20 if keys else 0):
            model = self._models[id_of(rng.choice(keys))]
            if model.is_live:
                return model
        return None

    def _past(self, moment: int | None) -> dict[str, VendorModel | None]:
        """The models that have changed since a moment (milliseconds), by id, each as it was then."""
        changes = [] if moment is None else [change for change in self._replaced if change[0] > moment]
        return {model_id: replaced for _, model_id, replaced in reversed(changes)}

    def _shows(self, model: VendorModel) -> bool:
        return not model.vanished and (model.status != "deleted" or self._switches.deleted == "listed")

    def _groups(self, model: VendorModel) -> tuple[str | None, ...]:
        return (None, model.status) if self._shows(model) else ()

    def _slice(self, keys: list[str], offset: int, limit: int) -> list[str]:
        if self._switches.order == "oldest":
            return keys[offset : offset + limit]
        end = max(0, len(keys) - offset)
        return keys[max(0, end - limit) : end][::-1]

    def _as_of(self, past: dict[str, VendorModel | None], status: str | None) -> list[str]:
        """The keys as they were when the models of `past` stood so."""
        keys = self._keys.get(status, []).copy()
        for model_id, was in past.items():
            present = self._models[model_id]
            if status in self._groups(present):
                del keys[bisect_left(keys, present.key)]
            if was is not None and status in self._groups(was):
                insort(keys, was.key)
        return keys

    def _model_at(self, key: str, past: dict[str, VendorModel | None]) -> VendorModel:
        return past.get(id_of(key)) or self._models[id_of(key)]
