"""A schema known to be older than the code ends web, also where Postgres was gone at its start.

gunicorn's master may not load the clients of our servers itself: its workers have to patch the standard library first.
So a process of its own, `python -m service.web.schema_watch`, looks until it has seen the schema, and tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from time import sleep
from typing import Any

from service.leash import leashed

LOOK_AGAIN_SECONDS = 2.0


class SchemaWatch:
    """gunicorn's master's side: starts the look, and ends with its outcome."""

    def __init__(self) -> None:
        self._outdated = ""

    def begin(self, _server: Any) -> None:
        """Begin to look: gunicorn's hook `when_ready`, which it calls before it forks its workers.

        The process is started here and not in the thread: a worker that is forked meanwhile would keep the pipes of
        the start open, and the thread would wait for their ends for ever.
        """
        command = leashed([sys.executable, "-m", "service.web.schema_watch"], signal.SIGTERM)
        looking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._wait, args=(looking,), daemon=True).start()

    def end(self, _server: Any) -> None:
        """Let the exit status say why it ended: gunicorn's hook `on_exit`.

        Raises:
            SystemExit: with status 1, when the schema is too old.
        """
        if self._outdated:
            print(self._outdated, file=sys.stderr)  # noqa: T201 - one clear line, also where logs are JSON
            sys.exit(1)

    def _wait(self, looking: subprocess.Popen[str]) -> None:
        with looking:
            # Its exit status is the master's, who collects every child; what it says is ours.
            self._outdated = looking.communicate()[0].strip()
        if self._outdated:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Look until Postgres has shown the schema; print what is wrong with it, nothing where it is fine."""
    from service import config  # noqa: PLC0415 - see the top
    from service.errors import SchemaOutdated, StorageUnavailable  # noqa: PLC0415
    from service.storage import database, schema  # noqa: PLC0415

    engine = database.connect(config.load(("DATABASE_URL",)).postgres_url, pool_size=1)
    while True:
        try:
            schema.check(engine)
        except StorageUnavailable:
            sleep(LOOK_AGAIN_SECONDS)
        except SchemaOutdated as error:
            print(error)  # noqa: T201 - read by the master
            return
        else:
            return


if __name__ == "__main__":
    main()
