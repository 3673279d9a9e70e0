"""How long a start takes: `python -m bench.start --rounds 7 --beside ../other/.venv/bin`.

Each round measures, for every folder of programs: one import of web's application, `headshot-mirror web` from its start
to the first 202 with two workers, and some commands; as seconds, and as multiples of that import.
"""

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import click

from bench.report import spread
from bench.setup import Servers, servers
from service.config import environment
from tests.support.processes import eventually
from tests.support.system import PROGRAMS, event_body, new_id

MEASURED = ("import", "first 202", "--help", "status", "models list", "models list --csv", "doctor --json")


def seconds(place: Servers, programs: Path, name: str) -> float:
    with ExitStack() as stack:
        system = place.started(stack)
        mirror = str(programs / "headshot-mirror")
        command = [mirror, *name.split()]
        if name == "import":
            command = [str(programs / "python"), "-c", "import service.web.app"]
        began = time.monotonic()
        if name == "first 202":
            system.run("web", [mirror, "web"])
            assert eventually(lambda: system.deliver(event_body(new_id())).status == 202, 60), system.logs()
        else:
            given = environment(**system.settings)
            subprocess.run(command, cwd=system.folder, env=given, capture_output=True, check=False)
        return time.monotonic() - began


@click.command()
@click.option("--rounds", default=7)
@click.option("--beside", multiple=True, type=click.Path(path_type=Path), help="Another folder of programs.")
def main(rounds: int, beside: tuple[Path, ...]) -> None:
    sides = [(programs.absolute(), name) for programs in (PROGRAMS, *beside) for name in MEASURED]
    with servers() as place:
        # The first round compiles, and fills the page cache.
        _, *found = [{side: seconds(place, *side) for side in sides} for _ in range(rounds + 1)]
    for programs, name in sides:
        taken = [one[programs, name] for one in found]
        ratios = [one[programs, name] / one[programs, "import"] for one in found]
        print(f"{programs} {name:<20} {spread(taken)} s, {spread(ratios)} imports")


if __name__ == "__main__":
    main()
