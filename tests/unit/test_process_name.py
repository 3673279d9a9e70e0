"""Who is surely dead: a process of this machine that has ended, and nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from service.process_name import own_name, surely_dead


def test_a_living_process_is_not_dead() -> None:
    assert not surely_dead(own_name())


def test_two_names_of_one_process_differ() -> None:
    assert own_name() != own_name()


def test_a_process_that_has_ended_is_surely_dead_on_this_machine_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert surely_dead(f"{socket.gethostname()}:{process.pid}:abcdef")
    assert not surely_dead(f"elsewhere:{process.pid}:abcdef")


@pytest.mark.parametrize("name", ["", "x", "a:b", "a:b:c", f"{socket.gethostname()}:not a number:c"])
def test_of_what_is_no_name_nothing_is_known(name: str) -> None:
    assert not surely_dead(name)
