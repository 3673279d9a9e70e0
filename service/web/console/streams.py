"""Open streams of one web process: one thread reads what is new, once a second, and hands it to all of them.

The thread runs while a stream is open. Under gunicorn it and each stream are greenlets, so a stream that waits takes
nothing from deliveries but its connection.

Why: `docs/decisions/0043-streams-by-polling.md`.
"""

from __future__ import annotations

import json
import select
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from gevent import monkey

from service.errors import MirrorError
from service.web.console.limits import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from service.web.console.tail import Item, News, Tail

log = structlog.get_logger(__name__)

RECONNECT_MS = 1000
# Messages that wait for a client that does not read; with one more its stream ends.
MAX_WAITING = 30
# Keys of one message; a page has fewer rows.
MAX_KEYS = 100
# While rows go on coming, few pages ask every second, and fifty as often as pages without a stream.
PAGES_A_SECOND = 10
LEAST_SECONDS, MOST_SECONDS = 1.0, 5.0


class Wanted(NamedTuple):
    """What a page shows.

    Attributes:
        topics: changes, events or both.
        facts: its filters, names and values; an item has to have all of them.
    """

    topics: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()

    def fits(self, item: Item) -> bool:
        """Whether an item belongs on the page."""
        return item.topic in self.topics and all(item.facts.get(name) == value for name, value in self.facts)

    def data(self, news: News, seconds: float) -> str | None:
        """The part of the news that the page needs, as its message has it; None where there is none.

        `seconds`: how long the page waits at least before it asks for itself again.
        """
        keys = list(dict.fromkeys(item.key for item in news.items if self.fits(item)))
        if not keys and not news.more:
            return None
        return json.dumps({"keys": keys[-MAX_KEYS:], "more": news.more or len(keys) > MAX_KEYS, "seconds": seconds})


class Stream:
    """One open stream.

    Attributes:
        wanted: what it is sent.
        socket: of its connection, where the server gives it.
        is_ready: it has begun.

    Args:
        seconds: how long it may last.
        heartbeat_seconds: how long it may be silent.
    """

    def __init__(self, wanted: Wanted, seconds: float, heartbeat_seconds: float, socket: Any = None) -> None:
        self.wanted = wanted
        self.socket = socket
        self.is_ready = False
        self._deadline = monotonic() + seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._has_ended = False

    def begin(self, place: str) -> None:
        """Send how far this process has read: the page asks for itself then, and has missed nothing."""
        self._send(f"id: {place}\nevent: ready\ndata: \n\n")
        self.is_ready = True

    def put(self, data: str, place: str) -> None:
        """Send some data, which was read up to that place."""
        self._send(f"id: {place}\ndata: {data}\n\n")

    def end(self) -> None:
        """End it; the client comes back."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def messages(self) -> Iterator[str]:
        """The body of the response."""
        yield f"retry: {RECONNECT_MS}\n\n"
        while (left := self._deadline - monotonic()) > 0:
            message = self._next(min(self._heartbeat_seconds, left))
            if message is None:
                return
            yield message

    def _send(self, message: str) -> None:
        with self._changed:
            self._waiting.append(message)
            self._has_ended = self._has_ended or len(self._waiting) > MAX_WAITING
            self._changed.notify_all()

    def _next(self, seconds: float) -> str | None:
        """The next message; a heartbeat where none comes in time, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._has_ended, seconds)
            if self._has_ended:
                return None
            return self._waiting.popleft() if self._waiting else ": heartbeat\n\n"


class Streams:
    """All open streams of a process.

    Attributes:
        number: how many are open.
        most: how many may be open.
        poll_seconds: time between two readings.
        heartbeat_seconds: how long a stream may be silent.
        stream_seconds: how long one lasts at most: the browser comes back at once, and its session is checked anew.

    Args:
        new_tail: makes what reads the news; called whenever the first stream opens.
    """

    most = 50
    poll_seconds = 1.0
    heartbeat_seconds = 15.0
    stream_seconds = 300.0

    def __init__(self, new_tail: Callable[[], Tail]) -> None:
        self._new_tail = new_tail
        # Guards the three below.
        self._lock = threading.Lock()
        self._open: set[Stream] = set()
        self._reader: threading.Thread | None = None
        self._is_stopping = False
        self._stopped = threading.Event()

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def pace_seconds(self) -> float:
        """How long a page of this process waits before it asks for itself again, while rows go on coming."""
        return min(MOST_SECONDS, max(LEAST_SECONDS, self.number / PAGES_A_SECOND))

    def rest(self, seconds: float) -> None:
        """Wait; no longer than until this process stops."""
        self._stopped.wait(seconds)

    def open(self, wanted: Wanted, session_seconds: float, socket: Any = None) -> Stream | None:
        """Open a stream, which ends with its session; the caller closes it.

        None: there are too many, or this process is stopping.
        """
        stream = Stream(wanted, min(self.stream_seconds, session_seconds), self.heartbeat_seconds, socket)
        with self._lock:
            if self._is_stopping or len(self._open) >= self.most:
                return None
            self._open.add(stream)
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, daemon=True, name="console streams")
                self._reader.start()
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream whose response has ended."""
        with self._lock:
            self._open.discard(stream)

    def stop(self) -> None:
        """End all of them, and open none any more: the process stops."""
        with self._lock:
            self._is_stopping = True
        self._stopped.set()
        for stream in self._now_open():
            stream.end()

    def _now_open(self) -> list[Stream]:
        with self._lock:
            return list(self._open)

    def _read(self) -> None:
        """Read and hand out while a stream is open."""
        tail, is_failing = self._new_tail(), False
        try:
            while streams := self._streams_or_end():
                _end_left(streams)
                try:
                    self._hand_out(tail, streams, self.pace_seconds)
                    is_failing = False
                except MirrorError as error:
                    # Streams go on with heartbeats; the next reading that succeeds finds what was missed.
                    if not is_failing:
                        log.warning("console.stream_reading_failed", reason=str(error))
                    is_failing = True
                self._stopped.wait(self.poll_seconds)
        except Exception:
            log.exception("console.streams_failed")
            # Without a reader they would stay silent: their clients come back, and begin another one.
            with self._lock:
                self._reader = None
            for stream in self._now_open():
                stream.end()

    @staticmethod
    def _hand_out(tail: Tail, streams: Collection[Stream], pace: float) -> None:
        """Read what is new, and give each stream its part."""
        place, news = tail.read(with_facts=any(one.wanted.facts for one in streams))
        # Most pages show the same.
        data = {wanted: wanted.data(news, pace) for wanted in {one.wanted for one in streams}}
        # Each is woken to send: deliveries go in between.
        for stream in in_turns(streams):
            if not stream.is_ready:
                stream.begin(place)
            elif (found := data[stream.wanted]) is not None:
                stream.put(found, place)

    def _streams_or_end(self) -> list[Stream]:
        """The open streams; none: this thread ends, and the next stream begins another one."""
        with self._lock:
            if not self._open or self._is_stopping:
                self._reader = None
                return []
            return list(self._open)


def _end_left(streams: Collection[Stream]) -> None:
    """End the streams whose clients have left: else each would count until two heartbeats have failed.

    A client sends nothing while it reads a stream, so a connection from which one could read has ended.
    """
    # gevent's own waits for the loop; this one only asks the kernel.
    poll = monkey.get_original("select", "poll")()
    by_file = {stream.socket.fileno(): stream for stream in streams if stream.socket is not None}
    for file in by_file:
        if file >= 0:
            poll.register(file, getattr(select, "POLLRDHUP", select.POLLIN))
    for file, _event in poll.poll(0):
        by_file[file].end()
