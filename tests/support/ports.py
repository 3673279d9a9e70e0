"""Ports for processes that a test starts: no other test process of the run draws them, and no connection has them."""

from __future__ import annotations

import os
import random
from itertools import cycle, islice

from service.local.servers.process import is_port_free

# Below the ports that the system gives to connections and to port 0: until a process listens on one of those, which
# takes it seconds, something else may have got it.
FIRST, END = 10_000, 32_000
# A process may listen on the ports after its own, too.
GROUP = 10


def _groups() -> range:
    """The first ports of this test process's groups: each process of a run has its own."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST + GROUP * number, END, GROUP * count)


# In an order that differs from run to run, as several may go on at once on a machine; not by the module's generator,
# which plugins of the tests begin anew.
_drawn = cycle(random.SystemRandom().sample(_groups(), len(_groups())))


def free_port() -> int:
    """A port of 127.0.0.1 that is free, with the nine after it.

    Raises:
        RuntimeError: there is none.
    """
    for port in islice(_drawn, len(_groups())):
        if all(map(is_port_free, range(port, port + GROUP))):
            return port
    raise RuntimeError("no ten ports in a row are free")
