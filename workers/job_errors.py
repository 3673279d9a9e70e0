"""Errors of jobs without values: RQ logs the whole traceback of a failed job, and keeps it in Redis."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import structlog
from rq.exceptions import StopRequested
from rq.timeouts import JobTimeoutException

from service.errors import MirrorError
from service.log import format_without_messages, raised_at

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

log = structlog.get_logger(__name__)


def redact_job_errors(job: Callable[P, None]) -> Callable[P, None]:
    """Let a job fail without the error that led to its `MirrorError`: a library's may repeat names and addresses."""

    @wraps(job)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            job(*arguments, **options)
        except (StopRequested, JobTimeoutException):
            # RQ's own, which it has to see.
            raise
        except MirrorError as error:
            raise error from None
        except Exception as error:  # noqa: BLE001 - that is what it is for
            log.error("job.failed", job=job.__name__, trace=format_without_messages(error))
            raise MirrorError(f"{type(error).__qualname__} at {raised_at(error)}") from None

    return run
