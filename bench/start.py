"""How long a start takes: `python -m bench.start [ROUNDS]`.

Each round measures one import of web's application, and `headshot-mirror web` from its start to the first 202 with two
workers; as seconds, and as multiples of that import.
"""

import subprocess
import sys
import time
from contextlib import ExitStack

from bench.report import alternate, ratio, spread
from bench.setup import Servers, servers
from tests.support.processes import eventually
from tests.support.system import event_body, new_id

IMPORT, FIRST = "import", "first 202"


def imported() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import service.web.app"], check=True)
    return time.monotonic() - began


def accepted(place: Servers) -> float:
    with ExitStack() as stack:
        system, began = place.started(stack), time.monotonic()
        system.start("web")
        assert eventually(lambda: system.deliver(event_body(new_id())).status == 202, 60), system.logs()
        return time.monotonic() - began


if __name__ == "__main__":
    with servers() as place:
        taken = alternate({IMPORT: imported, FIRST: lambda: accepted(place)}, int([*sys.argv, "7"][1]))
    for name, seconds in taken.items():
        print(f"{name:<10} {spread(seconds)} s, {ratio(taken, name, IMPORT)} imports")
