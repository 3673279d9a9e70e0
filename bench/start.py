"""How long a start takes: `python -m bench.start --rounds 7 --beside ../other/.venv/bin`.

Each round measures, for every folder of programs in turn: importing web's application once, `headshot-mirror web` from
its start to the first 202 with two workers, and some commands. All are given as times and as multiples of that import.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Spread
from service.config import environment
from service.local.servers import Postgres, Valkey
from service.storage.migrations.schema import migrate
from tests.support.processes import eventually
from tests.support.system import PROGRAMS, System, event_body, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = (("--help",), ("status",), ("models", "list"), ("models", "list", "--csv"), ("doctor", "--json"))


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="hm-") as name:
        folder = Path(name)
        with Postgres.start(folder / "postgres") as postgres, Valkey.start(folder / "valkey") as valkey:
            migrate(postgres.url)
            settings = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url, "WEB_CONCURRENCY": "2"}
            for programs in (PROGRAMS, *options.beside):
                # Once, so that everything is compiled and in the page cache.
                for measure in _measures(programs, folder, settings).values():
                    measure()
            found: dict[tuple[Path, str], list[float]] = {}
            for _ in range(options.rounds):
                for programs in (PROGRAMS, *options.beside):
                    for what, measure in _measures(programs, folder, settings).items():
                        found.setdefault((programs, what), []).append(measure())
    for programs in (PROGRAMS, *options.beside):
        print(programs)
        imports = found[programs, "import"]
        for what in _measures(programs, folder, settings):
            seconds = found[programs, what]
            ratios = [one / other for one, other in zip(seconds, imports, strict=True)]
            print(f"  {what:<20} {Spread.of(seconds)} s, {Spread.of(ratios)} imports")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--beside", type=lambda text: Path(text).absolute(), action="append", default=[])
    return parser.parse_args()


def _measures(programs: Path, folder: Path, settings: dict[str, str]) -> dict[str, Callable[[], float]]:
    """What is measured of a folder of programs, and how."""
    python = str(programs / "python")
    measures = {
        "import": lambda: _run([python, "-c", "import service.web.app"], folder, settings),
        "first 202": lambda: _first_202(programs, folder, settings),
    }
    for words in COMMANDS:
        command = [str(programs / "headshot-mirror"), *words]
        measures[" ".join(words)] = lambda command=command: _run(command, folder, settings)  # type: ignore[misc]
    return measures


def _run(command: list[str], folder: Path, settings: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment(**settings), capture_output=True, check=False)
    return time.monotonic() - began


def _first_202(programs: Path, folder: Path, settings: dict[str, str]) -> float:
    with System(folder, **settings) as system:
        began = time.monotonic()
        system.run("web", [str(programs / "headshot-mirror"), "web"])
        assert eventually(lambda: system.deliver(event_body(new_id())).status == 202, 60), system.logs()
        return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
