"""Unit tests run without servers, so that `make test-fast` stays fast: a test that needs one fails with a hint."""

from __future__ import annotations

import pytest

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
