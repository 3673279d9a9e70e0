"""A short soak, on every machine: the long one is `make soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.soak import soak

if TYPE_CHECKING:
    from pathlib import Path

# A few strikes, and everything at least once.
SHORT, LONG = 5.0, 25.0


# Half a minute where nothing else runs, and some of the waits are bounded generously. Each thing that strikes here
# does so alone in a test of `make test`.
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [SHORT, LONG])
def test_soak_with_faults_keeps_each_acknowledged_event_once(folder: Path, seconds: float) -> None:
    soaked = soak(seconds, folder)
    print(soaked.injected, len(soaked.acknowledged))  # noqa: T201 - for the one who reads a failure
    assert soaked.faults == []
    # It was loaded, and it was struck.
    assert len(soaked.acknowledged) >= 100
    assert len(soaked.injected) >= 3
