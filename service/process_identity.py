"""A process's name in leases, in the inbox and in `processes`, and for how long a heartbeat under it counts."""

from __future__ import annotations

import os
import secrets
import socket

# A process counts as alive for this long after a heartbeat: four did not come by then.
ALIVE_SECONDS = 20.0


def new_process_name() -> str:
    """A new name for this process: host, process id, and something that neither a restart nor another host repeats.

    It is readable, and different for any two holders.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
