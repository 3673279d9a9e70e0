"""Starts web: gunicorn's master imports the application once, and each of its workers is a fork of it.

gevent has to patch the standard library before the application and the clients of our servers are loaded, so the
master does that first.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent import monkey
from gunicorn.app.base import Application

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from service.config import Settings
    from service.web.schema_watch import SchemaCheck


class GunicornApplication(Application):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with the settings of `service.web.gunicorn_conf`, in this process.

    Args:
        start_check: begins to look at the schema.
    """

    def __init__(self, start_check: Callable[[], SchemaCheck]) -> None:
        self._start_check = start_check
        self._schema_check: SchemaCheck | None = None
        super().__init__()

    def run(self) -> None:
        """Look at the schema, then serve until asked to end.

        Raises:
            SchemaOutdated: the database is known to be older than the code.
        """
        self._schema_check = self._start_check()
        super().run()

    def load_config(self) -> None:
        """Take the settings of our module, then those of GUNICORN_CMD_ARGS: the command line is `headshot-mirror`'s."""
        self.load_config_from_module_name_or_filename("python:service.web.gunicorn_conf")
        given = self.cfg.parser().parse_args(self.cfg.get_cmd_args_from_env())
        for name, value in vars(given).items():
            if value is not None and name != "args":
                self.cfg.set(name, value)
        self.cfg.set("on_exit", self._end)

    def load(self) -> Flask:
        """Build a worker's application; connections belong to one process."""
        from service.web import create_app  # noqa: PLC0415 - see the top

        return create_app()

    def _end(self, _server: Any) -> None:
        if self._schema_check is not None:
            self._schema_check.exit_if_outdated()


def prepare(settings: Settings) -> GunicornApplication:
    """Import the application, and check what only the clients of our servers can of the settings.

    Raises:
        SettingsError: a URL of a server, or one of its options, is malformed, or Redis is a cluster.
    """
    # gunicorn's master goes on to wait for signals and children in its own way.
    monkey.patch_all(queue=False, os=False, signal=False, subprocess=False)
    # Each worker patches those too, and gevent warns of the union, which is meant.
    warnings.filterwarnings("ignore", "Patching more than once", monkey.MonkeyPatchWarning)

    from service.broker.client import require_usable_redis  # noqa: PLC0415 - see the top
    from service.storage import database  # noqa: PLC0415
    from service.web import app  # noqa: F401, PLC0415 - for the workers
    from service.web.schema_watch import SchemaCheck  # noqa: PLC0415

    require_usable_redis(settings.redis)
    engine = database.connect(settings.postgres_url, pool_size=1)
    return GunicornApplication(partial(SchemaCheck, engine))
