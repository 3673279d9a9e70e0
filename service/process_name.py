"""A process's name in leases and in the inbox: it tells who has something in hand, and, on one machine, who is dead."""

from __future__ import annotations

import os
import secrets
import socket


def own_name() -> str:
    """A new name for this process: machine, process id, and something that a restart does not repeat."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def surely_dead(name: str) -> bool:
    """Whether a named process ran on this machine and has ended; of other machines nothing is known.

    Where containers share a machine's name, a living one may be taken for dead: what it holds can be taken over, and it
    notices.
    """
    machine, _, rest = name.partition(":")
    pid = rest.partition(":")[0]
    if machine != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
