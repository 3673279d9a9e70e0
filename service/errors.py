"""The errors of this project, as one tree.

MirrorError
├── SettingsError            a setting is missing or malformed (exit 2)
├── Stopping                 the process has to stop, and was waiting
├── Unavailable              Postgres or Redis cannot be reached: wait and go on
│   ├── PostgresUnavailable  Postgres
│   │   ├── LockUnavailable  another transaction holds a lock that is needed
│   │   └── StatementTimeout a statement took longer than its limit
│   └── RedisUnavailable     Redis
│       ├── ClusterRefused   it is a Redis Cluster (exit 2 of a command)
│       └── WrongKeyType     a key of the mirror holds another type: the other keys work
├── SchemaOutdated           the database is older than the code (exit 1)
│   └── SchemaUnreleased     it is older than the first release: nothing migrates it
├── ApiError                 web refuses an HTTP request with a status and a code
├── LeaseLost                another process has taken over this pull
├── ActInFlight              another person does the same at this moment
├── PreviewOutdated          something else would happen by now than a person confirmed
├── LocalServerError         a local server could not be started
└── UpstreamError            the upstream did not do what was requested
    ├── UpstreamUnreachable  no response: refused, reset, cut short
    │   └── UpstreamTimeout  no response in time
    ├── UpstreamFailed       5xx, 408, 425, or an error without a code that came as a success
    ├── UpstreamMalformed    a response that is not what the vendor documents
    │   └── ResponseTooLarge larger than any response that it documents
    ├── ListUnusable         a list that ignores its parameters: no pull can read it
    ├── Throttled            no request may be sent before `retry_at`
    └── UpstreamRejected     4xx, with the vendor's code and error message
        ├── KeyRejected      401, 403
        └── ModelNotFound    404
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class MirrorError(Exception):
    """Root of every error that this project raises; its message never holds a secret of this process's settings.

    Attributes:
        act_row_id: the row in the audit log of the act that it ended; None where no act had begun.
    """

    act_row_id: int | None = None

    def __str__(self) -> str:
        """The message, which may repeat what a server said, without secrets."""
        return redact(super().__str__())


class SettingsError(MirrorError):
    """A setting is missing or malformed; the message is one line that names it and holds no secret."""


class Stopping(MirrorError):
    """The process has to stop, and was waiting."""


class Unavailable(MirrorError):
    """Postgres or Redis cannot be reached now."""


class PostgresUnavailable(Unavailable):
    """Postgres cannot be reached."""


class LockUnavailable(PostgresUnavailable):
    """Another transaction holds a lock that is needed, and did not release it in time."""


class StatementTimeout(PostgresUnavailable):
    """A statement took longer than its limit, and Postgres ended it."""


class RedisUnavailable(Unavailable):
    """Redis cannot be reached or cannot take what it was given."""


class ClusterRefused(RedisUnavailable):
    """REDIS_URL leads to a Redis Cluster. A process that runs goes on without it, as while Redis is unavailable."""


class WrongKeyType(RedisUnavailable):
    """A key of the mirror's in Redis was written with another type. Work on other keys can go on."""


class SchemaOutdated(MirrorError):
    """The database's schema is older than the code.

    Attributes:
        action: the remedy, for a report that lists it apart from the message.
    """

    action = "run `headshot-mirror migrate`"


class SchemaUnreleased(SchemaOutdated):
    """The database's schema is older than the first release: no migration leads on from it."""

    action = (
        "drop it (`DROP SCHEMA headshotpro CASCADE`; of `up`: delete its folder), then run "
        "`headshot-mirror migrate` and `headshot-mirror pull --full`"
    )


class ApiError(MirrorError):
    """Web refuses an HTTP request: a delivery, a call of the API, or bytes that are no request; so does the sandbox.

    Attributes:
        code: the machine-readable code of its body.
        headers: headers that belong to the status, such as `Retry-After`.
        label: the value of `answer` under which a refused delivery is counted; empty where nothing is counted.
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None, label: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.label = label

    def body(self) -> bytes:
        """The response's body in the vendor's form for errors, as JSON."""
        return json.dumps({"success": False, "error": str(self), "code": self.code}).encode() + b"\n"


class LeaseLost(MirrorError):
    """Another process has taken over this pull."""


class ActInFlight(MirrorError):
    """Another person does the same at this moment; nothing was done."""


class PreviewOutdated(MirrorError):
    """Something else would happen by now than the preview that a person confirmed says; nothing was done."""


class LocalServerError(MirrorError):
    """A local server could not be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class VendorErrorResponse:
    """An error response of the vendor, to be passed on; its body may hold an address, so no repr shows it."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class UpstreamError(MirrorError):
    """The upstream did not do what was requested.

    Attributes:
        vendor_response: its response, where that was an error in the vendor's own form.
    """

    vendor_response: VendorErrorResponse | None = None


class UpstreamUnreachable(UpstreamError):
    """No response: connection refused, reset or cut short."""


class UpstreamTimeout(UpstreamUnreachable):
    """No response in time: whether the request took effect is not known."""


class UpstreamFailed(UpstreamError):
    """The upstream responded with 5xx, 408, 425 or `success: false`, again after every retry."""


class UpstreamMalformed(UpstreamError):
    """The upstream responded with something other than the vendor documents."""


class ResponseTooLarge(UpstreamMalformed):
    """The upstream's response is longer than any that it documents."""


class ListUnusable(UpstreamError):
    """The list ignores its parameters or does not hold still, so that no walk over it proves anything."""


class Throttled(UpstreamError):
    """The request budget or the vendor's limit is spent.

    Attributes:
        retry_at: our clock's UTC time from which a request may be sent again.
    """

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class UpstreamRejected(UpstreamError):
    """The vendor refused the request.

    Attributes:
        code: the vendor's code, such as `INSUFFICIENT_CREDITS`; empty where it sent none.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class KeyRejected(UpstreamRejected):
    """401 or 403: the API key is wrong, or may not do this."""


class ModelNotFound(UpstreamRejected):
    """404 on one model.

    Attributes:
        sent_at: lower end of the response's interval, on the upstream's clock.
        received_at: upper end of it.
    """

    def __init__(self, code: str, message: str, sent_at: datetime, received_at: datetime) -> None:
        super().__init__(404, code, message)
        self.sent_at = sent_at
        self.received_at = received_at
