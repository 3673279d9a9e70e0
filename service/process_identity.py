"""A process's name in leases, in the inbox and in `processes`: readable, and different for any two holders."""

from __future__ import annotations

import os
import secrets
import socket


def new_process_name() -> str:
    """A new name for this process: host, process id, and something that neither a restart nor another host repeats."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
