"""The classes of differences, as far as they can be known by now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from service.mirror import census

if TYPE_CHECKING:
    from tests.support.mirror import Mirror


def classify(here: Mirror) -> None:
    """Classify differences as the workers' job does, without its pauses."""
    known_to = census.deliveries_known_to(here.runtime.engine, here.runtime.inbox)
    assert census.classify_differences(
        here.runtime.engine, here.runtime.tolerance, known_to, again_after=timedelta(seconds=-1)
    )
