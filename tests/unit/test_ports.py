"""Test processes beside each other draw no port in common."""

from __future__ import annotations

import pytest

from tests.support import ports

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


def test_search_for_a_port_ends_where_none_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_port_free", lambda _port: False)
    with pytest.raises(RuntimeError, match="no ten ports in a row are free"):
        ports.free_port()
