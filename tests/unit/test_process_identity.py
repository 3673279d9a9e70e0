"""Who is surely dead: a process that ran where this one runs and has ended, and nobody else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.process_identity import is_known_dead, machine_id, new_process_name

if TYPE_CHECKING:
    from collections.abc import Sequence

# A container of its own: its process ids begin at 1, its kernel and its host name are this machine's.
CONTAINER = ("unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_a_living_process_is_not_dead() -> None:
    assert not is_known_dead(new_process_name())


def test_two_names_of_one_process_differ() -> None:
    assert new_process_name() != new_process_name()


def test_a_process_that_has_ended_is_surely_dead_on_this_machine_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert is_known_dead(f"{machine_id()}:{process.pid}:abcdef")
    assert not is_known_dead(f"elsewhere:{process.pid}:abcdef")
    # Machines are cloned with their names, and a machine that has booted again gives the same ids anew.
    host, boot, space = machine_id().split("/")
    for place in (f"{host}/{boot[::-1]}x/{space}", f"{host}/{boot}/1", f"other/{boot}/{space}", host):
        assert not is_known_dead(f"{place}:{process.pid}:abcdef")


@pytest.mark.parametrize("name", ["", "x", "a:b", "a:b:c", f"{machine_id()}:not a number:c"])
def test_of_what_is_no_name_nothing_is_known(name: str) -> None:
    assert not is_known_dead(name)


def contained() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*CONTAINER, "true"], check=False).returncode == 0


@pytest.mark.skipif(not contained(), reason="no namespace of process ids can be made here")
def test_containers_that_share_host_name_and_kernel_know_nothing_of_each_other() -> None:
    name = "from service.process_identity import new_process_name; print(new_process_name())"
    # Its process has ended, and its id is in use here or is not: both say nothing.
    there = said([*CONTAINER, sys.executable, "-c", name])
    assert there.split("/")[0] == machine_id().split("/")[0]
    assert not is_known_dead(there)
    # The other way round: this process lives, and its id means nothing in there.
    dead = (
        f"import sys; from service.process_identity import is_known_dead; print(is_known_dead({new_process_name()!r}))"
    )
    assert said([*CONTAINER, sys.executable, "-c", dead]) == "False"


def said(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return done.stdout.strip()
