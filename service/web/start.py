"""Starts web: gunicorn's master imports the application once, and each of its workers is a fork of it.

gevent has to patch the standard library before the application and the clients of our servers are loaded, so the
master does that first.
"""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

from gevent import monkey
from gunicorn.app.base import Application

from service.garbage import collect_as_usual

if TYPE_CHECKING:
    from flask import Flask

    from service.config import Settings


class GunicornApplication(Application):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with the settings of `service.web.gunicorn_conf`, in this process."""

    def load_config(self) -> None:
        """Take the settings of our module, then those of GUNICORN_CMD_ARGS: the command line is `headshot-mirror`'s."""
        self.load_config_from_module_name_or_filename("python:service.web.gunicorn_conf")
        given = self.cfg.parser().parse_args(self.cfg.get_cmd_args_from_env())
        for name, value in vars(given).items():
            if value is not None and name != "args":
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build a worker's application; connections belong to one process."""
        from service.web import create_app  # noqa: PLC0415 - see the top

        app = create_app()
        # It lasts as long as the process: the search for garbage took 40 ms of processor time with it, in one turn.
        gc.freeze()
        return app


def prepare(settings: Settings) -> GunicornApplication:
    """Import the application, compile its templates, and check what only the clients of servers can check.

    Raises:
        SettingsError: a URL of a server, or one of its options, is malformed, or Redis is a cluster.
    """
    # gunicorn's master goes on to wait for signals and children in its own way.
    monkey.patch_all(queue=False, os=False, signal=False, subprocess=False)
    # Each worker patches those too, and gevent warns of the union, which is meant.
    warnings.filterwarnings("ignore", "Patching more than once", monkey.MonkeyPatchWarning)

    # Nothing that is imported is garbage, and the search for it would take a seventh of the time. Frozen, its pages
    # stay shared with the workers, which are forks: their collectors do not touch them.
    gc.disable()
    from service.broker.client import require_usable_redis  # noqa: PLC0415 - see the top
    from service.web import app, compiled_templates  # noqa: PLC0415 - for the workers

    collect_as_usual()
    gc.enable()
    require_usable_redis(settings.redis)
    # This application is used for that alone, so it never connects to anything.
    compiled_templates.compile_all(app.build(settings))
    # Or each worker would find it.
    gc.collect()
    return GunicornApplication()
