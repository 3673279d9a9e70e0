"""Bodies of requests on their way in: each has a deadline, and together they take no more memory than the process has.

gunicorn's master loads this module: see `gunicorn_worker`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import ParseException

from service.web.connection import READ_BYTES

if TYPE_CHECKING:
    from service.web.connection import Connection

# Memory for all bodies of a process: 64 of the largest. A delivery has one or two kilobytes.
BODY_BUDGET_BYTES = 16 * 1024 * 1024
# The framing of chunks may take as much as the body and this. Chunks of one byte cost a second of CPU for 256 KiB.
MAX_FRAMING_BYTES = 64 * 1024
# A response that was sent before the body was read keeps its connection if no more than this comes after it.
MAX_SKIPPED_BYTES = 256 * 1024


class BodyBudget:
    """The memory for bodies of one process.

    When it is used up, the body that has been arriving longest has to end. A delivery arrives at once, so that is
    never the one that just came.
    """

    def __init__(self, max_bytes: int = BODY_BUDGET_BYTES) -> None:
        self._left = max_bytes
        # Bytes that each holds.
        self._held: dict[Connection, int] = {}
        # Those that are not complete, in the order of their first bytes.
        self._arriving: dict[Connection, None] = {}
        # Those that have to end and still hold something, and all that they hold.
        self._aborted: set[Connection] = set()
        self._aborted_bytes = 0

    def take(self, connection: Connection, size: int) -> None:
        """Count bytes that have arrived. Without room for them, wait until another body has ended.

        Raises:
            TimeoutError: it is this one that has to end.
        """
        self._left -= size
        if connection not in self._held:
            self._held[connection] = 0
            self._arriving[connection] = None
        self._held[connection] += size
        while self._left < 0:
            while self._left + self._aborted_bytes < 0 and self._arriving:
                self._abort_oldest()
            if connection in self._aborted:
                raise TimeoutError
            if self._held[connection] <= READ_BYTES:
                # A delivery does not wait; all others together hold little more for that.
                return
            connection.yield_turn()

    def complete(self, connection: Connection) -> None:
        """A body is here: it keeps its memory until it is released, whatever else comes."""
        self._arriving.pop(connection, None)

    def release(self, connection: Connection) -> None:
        """A response was sent, or the body was dropped."""
        size = self._held.pop(connection, 0)
        self._left += size
        self._arriving.pop(connection, None)
        if connection in self._aborted:
            self._aborted.remove(connection)
            self._aborted_bytes -= size

    def _abort_oldest(self) -> None:
        connection = next(iter(self._arriving))
        del self._arriving[connection]
        self._aborted.add(connection)
        self._aborted_bytes += self._held[connection]
        connection.abort()


class FramingTooLong(ParseException):  # type: ignore[misc]  # gunicorn has no types
    """A body in chunks consists of sizes and extensions of chunks for the most part."""


class BodyReader:
    """Reads one body, in the place of gunicorn's reader. A body that cannot be read gets a 400 or 408.

    Attributes:
        ended: whether all of it was read.
    """

    def __init__(self, request: Any, connection: Connection, budget: BodyBudget) -> None:
        self.ended = False
        self._request = request
        self._reader = request.body.reader
        self._connection = connection
        self._budget = budget
        self._read = 0
        self._failed = False
        self._is_counted = True
        self._max_wire_bytes = MAX_FRAMING_BYTES
        connection.expect_body(self._arrived)

    def read(self, size: int) -> bytes:
        """The next bytes of the body; none at its end.

        Raises:
            RequestTimeout: they do not come in time, or the budget has no room for them.
            BadRequest: they are not what HTTP allows, or the client has disconnected.
        """
        # Late, because gunicorn's master must not load it: see `gunicorn_worker`.
        from werkzeug.exceptions import BadRequest, RequestTimeout  # noqa: PLC0415

        try:
            return self._next(size)
        except TimeoutError:
            self._fail()
            raise RequestTimeout("the body took too long") from None
        except FramingTooLong:
            self._fail()
            raise BadRequest("the chunks of the body are too small: send it with its Content-Length") from None
        except (ParseException, OSError) as error:
            self._fail()
            raise BadRequest(f"the body cannot be read: {type(error).__name__}") from None

    def skip(self) -> None:
        """Throw away what the application left unread, so that the next request can be found behind it."""
        self._release_memory()
        self._max_wire_bytes = self._connection.body_bytes + MAX_SKIPPED_BYTES
        with suppress(TimeoutError, ParseException, OSError):
            while not self.ended and not self._failed:
                self._next(READ_BYTES)

    def close(self) -> None:
        """The request is over, and so is the wait for its body."""
        self._connection.expire()
        if not self.ended:
            self.skip()
        self._release_memory()
        self._connection.unfinished = not self.ended
        if not self.ended:
            # The connection ends, and lingers for a moment: what was read of the body must not do so as well.
            self._request.body = None

    def _fail(self) -> None:
        """Where the next request begins is unknown now: the response ends the connection."""
        self._failed = True
        self._request.force_close()

    def _release_memory(self) -> None:
        """The body is held no longer."""
        self._is_counted = False
        self._budget.release(self._connection)

    def _next(self, size: int) -> bytes:
        piece: bytes = self._reader.read(min(size, READ_BYTES))
        self._read += len(piece)
        if self._is_counted:
            self._max_wire_bytes = 2 * self._read + MAX_FRAMING_BYTES
        if not piece:
            self.ended = True
            self._budget.complete(self._connection)
        return piece

    def _arrived(self, size: int) -> None:
        if self._connection.body_bytes > self._max_wire_bytes:
            raise FramingTooLong
        if self._is_counted:
            self._budget.take(self._connection, size)
