"""A short storm, on every machine: long ones are `make storm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.storm import storm

if TYPE_CHECKING:
    from pathlib import Path

SEED = 7
SECONDS = 8.0


# Half a minute where nothing else runs, and some of the waits are bounded generously.
@pytest.mark.long
@pytest.mark.timeout(400)
def test_mirror_is_exact_after_a_storm_one_pull_and_a_sweep(folder: Path) -> None:
    report = storm(SEED, folder, SECONDS)
    print(report.full_text)  # noqa: T201 - what was struck when, for the one who reads a failure
    assert report.differences == []
    # It did blow.
    assert len(report.injected) >= 3
    assert report.events >= 50
