"""The machine that acts is cut off from the servers: another takes over, nothing is done twice or lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from service.parent_death import die_with_parent

# The kernel takes all of it away when its first process ends, which ends with this one.
BOX = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
AS_ANYBODY = (BOX[0], "--map-root-user", *BOX[1:])
TRIAL = "ip link add name bridge1 type bridge && ip link add name left type veth peer name right && ip link set left up"
ROOT = Path(__file__).parents[2]


def box() -> list[str]:
    """The command that creates namespaces for machines; empty where the kernel allows none."""
    program = shutil.which(BOX[0])
    for way in (BOX, AS_ANYBODY) if program else ():
        if subprocess.run([*way, "sh", "-c", TRIAL], check=False, capture_output=True).returncode == 0:
            return [str(program), *way[1:]]
    return []


# Under a minute where nothing else runs, and all waits are bounded.
@pytest.mark.long
@pytest.mark.timeout(400)
def test_another_machine_takes_over_from_one_that_is_cut_off(folder: Path) -> None:
    way = box()
    command = [sys.executable, "-m", "tests.faults.partition", str(folder), "namespaces" if way else "loopback"]
    done = subprocess.run(
        die_with_parent([*way, *command], SIGKILL), cwd=ROOT, capture_output=True, text=True, timeout=360, check=False
    )
    assert done.returncode == 0, done.stderr[-20_000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    print(way, seen)  # noqa: T201 - how long it took, and on which machines, for the one who reads a failure
    assert seen["silent"]
    assert max(seen["took_over_after"].values()) < 30
    # The one that was cut off wrote nothing, and acts no more since it is back.
    assert seen["work_while_cut_off"] == []
    assert not seen["acts_beside_another"]
    assert seen["pulls_at_once"] == []
    # The other web process took every delivery, and each was applied.
    assert seen["deliveries"] > 20
    assert seen["refused"] == 0
    assert seen["not_applied"] == []
    assert seen["verify"]["status"] == 0, seen["verify"]
    devices = {path.name for path in Path("/sys/class/net").glob("*")}
    assert not [name for name in devices if name.startswith(("servers", "vendor"))]
