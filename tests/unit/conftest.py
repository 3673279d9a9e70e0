"""Unit tests run without servers, so that `make test-fast` stays fast: a test that needs one fails with a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

REASON = "tests in tests/unit start no servers: this one belongs into tests/integration"


@pytest.fixture(scope="session")
def postgres() -> None:
    pytest.fail(REASON)


@pytest.fixture(scope="session")
def valkey() -> None:
    pytest.fail(REASON)


@pytest.fixture
def sandbox() -> None:
    pytest.fail(REASON)


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A `.env` that is not there."""
    return tmp_path / ".env"
