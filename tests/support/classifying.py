"""The classes of differences, as far as they can be known by now, and the figures of a period."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from service.mirror import accuracy_figures, census
from service.storage.database import transaction

if TYPE_CHECKING:
    from tests.support.mirror import Mirror


def classify(here: Mirror) -> None:
    """Classify differences as the workers' job does, without its pauses."""
    known_to = census.deliveries_known_to(here.runtime.engine, here.runtime.inbox)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "AGAIN_AFTER", timedelta(seconds=-1))
        assert census.classify_differences(here.runtime.engine, here.runtime.tolerance, known_to, 60)


def checks(here: Mirror) -> list[dict[str, Any]]:
    """The rows of `accuracy_checks`, once they are classified as far as possible."""
    classify(here)
    return here.sql("select * from headshotpro.accuracy_checks order by model_id")


def figures(here: Mirror, period: str = "24h", fields: str = "list") -> dict[str, Any]:
    with transaction(here.runtime.engine) as connection:
        accuracy_figures.compute(connection, here.settings.accuracy_slo)
    (row,) = here.sql("select * from headshotpro.accuracy where period = %s and fields = %s", period, fields)
    return row
