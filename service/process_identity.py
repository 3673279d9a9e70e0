"""A process's name in leases and in the inbox: it tells who has something in hand, and, on one machine, who is dead.

Why: `docs/decisions/0010-leases.md`.
"""

from __future__ import annotations

import os
import secrets
import socket
from functools import cache
from pathlib import Path


def new_process_name() -> str:
    """A new name for this process: machine, process id, and something that a restart does not repeat."""
    return f"{machine_id()}:{os.getpid()}:{secrets.token_hex(3)}"


@cache
def machine_id() -> str:
    """The place in which this process's id is its own: host name, boot of the kernel, namespace of process ids.

    The host name alone is no place: containers of one pod share it, and so do images that are all called `localhost`.
    The boot alone is none either: all containers of a kernel share it. A kernel that tells neither (it is not Linux)
    makes every process a place of its own, so that nobody takes it for dead.
    Sources: random(4), `boot_id`; pid_namespaces(7); namespaces(7), `/proc/pid/ns/`.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        # `pid:[4026531836]`. A number is given again only when its namespace, and so all in it, has ended.
        space = str(Path("/proc/self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except (OSError, ValueError):
        boot, space = secrets.token_hex(4), str(os.getpid())
    return f"{socket.gethostname()}/{boot}/{space}"


def is_known_dead(name: str) -> bool:
    """Whether a named process ran where this one runs, and has ended; of other machines nothing is known."""
    place, _, rest = name.partition(":")
    pid = rest.partition(":")[0]
    if place != machine_id() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
