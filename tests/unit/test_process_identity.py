"""Names of processes."""

from __future__ import annotations

import os
import socket

from service.process_identity import new_process_name


def test_two_names_of_one_process_differ() -> None:
    one, other = new_process_name(), new_process_name()
    assert one != other
    assert one.rpartition(":")[0] == other.rpartition(":")[0] == f"{socket.gethostname()}:{os.getpid()}"
