"""Logs: one JSON object a line on stderr, or readable lines where LOG_FORMAT=console.

Our own lines do not pass through the standard library's logging: the endpoint writes one for each delivery, and there
that took four times as long as the line itself. Personal data, secrets and raw bodies are never passed to a logger; ids
are.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from service import __version__, redaction
from service.errors import MirrorError
from service.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from service.config import Settings


# An id or a name from outside may be as long as a whole body; collectors of logs split or drop lines of 16 KB.
MAX_VALUE_LENGTH = 1000
# A message of a library may hold a traceback, too: RQ's does.
MAX_TRACE_LENGTH = 12_000
_TRACES = ("event", "trace", "exception")


class _StderrLines:
    """Writes finished lines to stderr. A line that cannot be written is lost, and the caller gets no error."""

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
        _cut,
    ]
    redaction.register_secrets(settings.secrets)
    exceptions = structlog.processors.ExceptionRenderer(lambda raised: format_without_messages(raised[1]))
    last: list[Any] = (
        [exceptions, structlog.processors.JSONRenderer(default=repr)]
        if settings.log_format == "json"
        else [_visible_values, exceptions, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    last.append(lambda _logger, _method, line: redaction.redact(line))
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    # Apprise logs what it sends to which receiver. `service.alerts` reads there why one failed, whatever LOG_LEVEL is,
    # and logs that itself.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("apprise").setLevel("INFO")
    # It warns of every step that failed on a lost connection; the caller logs the loss itself.
    logging.getLogger("psycopg").setLevel("ERROR")
    # It warns of each odd header, with a traceback; what matters of a response is an error of its request.
    logging.getLogger("urllib3").setLevel("ERROR")
    for chatty in ("rq", "rq.worker", "rq.job", "alembic", "gunicorn.access"):
        logging.getLogger(chatty).setLevel("WARNING")
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=lambda *_: _StderrLines(),
        # A cached logger keeps the level of the first configuration, so a second one would change nothing for it.
        cache_logger_on_first_use=False,
    )


def log_start(process: str) -> None:
    """Log which version of a process starts, and where, once its settings are known to be right."""
    structlog.get_logger(__name__).info(
        f"{process}.starts", version=__version__, host=socket.gethostname(), pid=os.getpid()
    )


def log_crashes_without_messages() -> None:
    """Log an error that ends this process or one of its threads; Python's own hooks print the message, too."""

    def crash(kind: type[BaseException], error: BaseException | None, _trace: TracebackType | None) -> None:
        if error is not None:
            structlog.get_logger(__name__).critical(
                "crashed", reason=kind.__qualname__, trace=format_without_messages(error)
            )

    sys.excepthook = crash
    threading.excepthook = lambda ended: crash(ended.exc_type, ended.exc_value, ended.exc_traceback)


def _cut(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut texts that are too long for a line in their middle: the end of a traceback says most."""
    for name, value in event.items():
        longest = MAX_TRACE_LENGTH if name in _TRACES else MAX_VALUE_LENGTH
        if isinstance(value, str) and len(value) > longest:
            # Before it is cut: half of a key is a secret, too.
            plain = redaction.redact(value)
            half = longest // 2
            event[name] = plain if len(plain) <= longest else f"{plain[:half]}…{plain[-half:]}"
    return event


def _visible_values(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Spell out what a terminal would obey; JSON does so by itself."""
    return {name: escape_controls(value) if isinstance(value, str) else value for name, value in event.items()}


def format_without_messages(error: BaseException) -> str:
    """The traceback of an error and of those that led to it, the first cause first."""
    return "\n".join("".join([*traceback.format_tb(one.__traceback__), _kind(one)]) for one in _chain(error))


def raised_at(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, MirrorError) else name


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return reversed(found)
