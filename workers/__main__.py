"""The entry points of the two background processes: `python -m workers worker` and `python -m workers clock`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from service.garbage import collect_as_usual, collect_rarely

collect_rarely()
from service import config, log  # noqa: E402 - after that
from service.broker.client import require_usable_redis  # noqa: E402
from service.errors import SchemaOutdated, SettingsError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.config import Settings

REQUIRED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY")


def main(process: str) -> int:
    """Run a process until it has to stop; its exit status."""
    try:
        settings = config.load(REQUIRED_SETTINGS)
        log.configure(settings)
        log.log_crashes_without_messages()
        require_usable_redis(settings.redis)
        run = _entry(process)
        collect_as_usual()
        run(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
        return 2
    except SchemaOutdated as error:
        print(error, file=sys.stderr)  # noqa: T201 - see above
        return 1
    return 0


def _entry(process: str) -> Callable[[Settings], None]:
    """A process's main function; a worker's supervisor needs little of what the clock and its own children load."""
    # Late, for that.
    if process == "clock":
        from workers import clock  # noqa: PLC0415

        return clock.run
    from workers import supervisor  # noqa: PLC0415

    return supervisor.run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
