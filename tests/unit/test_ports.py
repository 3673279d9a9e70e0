"""Test processes beside each other draw no port in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import ports

if TYPE_CHECKING:
    import pytest

PROCESSES = 6


def test_no_two_test_processes_have_a_port_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(PROCESSES))
    drawn: list[int] = []
    for number in range(PROCESSES):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        drawn += [port for first in ports._groups() for port in range(first, first + ports.GROUP)]
    assert len(set(drawn)) == len(drawn)
    # Below those that Linux gives out by itself.
    assert max(drawn) < 32_768
