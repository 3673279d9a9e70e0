"""The order of a run: slow folders first, so that no process ends with a long test; within them pytest-randomly's.

Why: `docs/decisions/0030-tests-and-ci.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ("faults", "fuzz", "integration", "contract", "unit")


def rank(path: Path) -> int:
    """Where the tests of a file come; unknown folders come first."""
    # The file's own folder: those above it have names that the owner of a checkout chose.
    folder = path.parent.name
    return FOLDERS.index(folder) if folder in FOLDERS else -1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow folders first; a test that ends what its file shares comes last in that file."""
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (rank(item.path), files[item.path], item.get_closest_marker("last") is not None))
