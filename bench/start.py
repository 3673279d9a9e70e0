"""How long starts take: `python -m bench.start [ROUNDS]`.

Each round measures an import of web's application, `web` with two workers until its first 202, and `status`.
"""

import sys
import time
from contextlib import ExitStack

from bench.report import alternate, ratio, spread
from bench.setup import Servers, servers
from tests.support.processes import eventually
from tests.support.system import event_body, new_id

COMMANDS = {
    "import": ["-c", "import service.web.app"],
    "first 202": ["-m", "service.cli", "web"],
    "status": ["-m", "service.cli", "status"],
}


def seconds_of(place: Servers, command: list[str]) -> float:
    with ExitStack() as stack:
        system, began = place.started(stack), time.monotonic()
        started = system.run("started", [sys.executable, *command])
        if "web" in command:
            assert eventually(lambda: system.deliver(event_body(new_id())).status == 202, 60), system.logs()
        else:
            assert started.process.wait(60) == 0 or "last_event" in started.said, system.logs()
        return time.monotonic() - began


if __name__ == "__main__":
    with servers() as place:
        sides = {name: lambda command=command: seconds_of(place, command) for name, command in COMMANDS.items()}
        taken = alternate(sides, int([*sys.argv, "7"][1]))
    for name, seconds in taken.items():
        print(f"{name:<10} {spread(seconds)} s, {ratio(taken, name, 'import')} imports")
