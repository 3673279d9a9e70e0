"""The entry points of the two background processes: `python -m workers worker` and `python -m workers clock`."""

from __future__ import annotations

import sys

from service import config, log
from service.errors import SchemaOutdated, SettingsError
from workers import clock, supervisor

PROCESSES = {"worker": supervisor.run, "clock": clock.run}
NEEDS = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY")


def main(process: str) -> int:
    """Run a process until it is asked to stop; its exit status."""
    try:
        settings = config.load(NEEDS)
        log.configure(settings)
        PROCESSES[process](settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
        return 2
    except SchemaOutdated as error:
        print(error, file=sys.stderr)  # noqa: T201 - see above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
