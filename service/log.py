"""Logs: one JSON object a line on stderr, or readable lines where LOG_FORMAT=console.

Our own lines do not pass through the standard library's logging: the door writes one for each delivery, and there that
took four times as long as the line itself. Personal data, secrets and raw bodies are never passed to a logger; ids are.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.config import Settings


class _Lines:
    """Writes finished lines to stderr. A line that cannot be written is no error of who logs it: it is lost."""

    def msg(self, line: str) -> None:
        """Write a line; as one piece, because other processes write to the same file."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = msg


def configure(settings: Settings) -> None:
    """Give our own lines and those of libraries the same form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if settings.log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json_writer())]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # Apprise tells whom it sends what; what came back is logged by `service.alerts`.
    logging.getLogger("apprise").propagate = False
    # It warns of each thing that it could not do on a connection that was lost; that it was is told by whoever used it.
    logging.getLogger("psycopg").setLevel("ERROR")
    for chatty in ("rq", "rq.worker", "rq.job", "urllib3", "alembic", "gunicorn.access"):
        logging.getLogger(chatty).setLevel("WARNING")
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )


def _json_writer() -> Callable[..., str]:
    """`json.dumps` with one encoder for all lines: it makes one for each call where it is given a default."""
    encoder = json.JSONEncoder(default=repr)

    def write(document: Any, **_options: Any) -> str:
        return encoder.encode(document)

    return write
