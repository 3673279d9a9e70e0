"""The person who runs a command, for the audit log."""

from __future__ import annotations

import os
import pwd
import socket

from service.storage.audit import COMMAND_LINE, Actor


def current_actor() -> Actor:
    """The system user of this process (its number where it has no name), on this machine."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"uid {number}"
    return Actor(name, COMMAND_LINE, socket.gethostname())
