"""The entry points of the two background processes: `python -m workers worker` and `python -m workers clock`."""

from __future__ import annotations

import sys

from service.garbage import collect_as_usual, collect_rarely

collect_rarely()
from service import config, log  # noqa: E402 - after that
from service.broker.client import require_usable_redis  # noqa: E402
from service.errors import SchemaOutdated, SettingsError  # noqa: E402
from service.signal_handlers import end_on_signals  # noqa: E402

REQUIRED_SETTINGS = ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY")


def main(process: str) -> int:
    """Run a process until it has to stop; its exit status."""
    end_on_signals()
    try:
        settings = config.load(REQUIRED_SETTINGS)
        log.configure(settings)
        log.log_crashes_without_messages()
        require_usable_redis(settings.redis)
        # Imported late: a worker's supervisor needs little of what the clock and its own children load.
        if process == "clock":
            from workers.clock import run  # noqa: PLC0415
        else:
            from workers.supervisor import run  # noqa: PLC0415
        collect_as_usual()
        run(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
        return 2
    except SchemaOutdated as error:
        print(error, file=sys.stderr)  # noqa: T201 - see above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
