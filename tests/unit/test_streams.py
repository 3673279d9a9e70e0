"""Streams of the console without servers: limits, ends, readers that are slow or have left, and a tail that fails."""

from __future__ import annotations

import json
import socket
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from service.errors import PostgresUnavailable
from service.web.console.streams import MAX_KEYS, MAX_WAITING, Streams, Wanted
from service.web.console.tail import CHANGES, EVENTS, Item, News, Tail
from tests.support.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = Wanted((CHANGES, EVENTS))
SECONDS = 3600.0


def change(key: str, **facts: str) -> Item:
    return Item(CHANGES, key, facts)


class WrittenTail(Tail):
    """A tail whose readings are given: news, or the error that each fails with."""

    def __init__(self, *readings: News | BaseException) -> None:
        self.left = deque(readings)
        self.reads = 0
        self.facts_read: list[bool] = []

    def read(self, *, with_facts: bool) -> tuple[str, News]:
        self.reads += 1
        self.facts_read.append(with_facts)
        reading = self.left.popleft() if self.left else News((), more=False)
        if isinstance(reading, BaseException):
            raise reading
        return f"{self.reads}.0", reading


def streams_of(tail: WrittenTail, **limits: Any) -> Streams:
    streams = Streams(lambda: tail)
    for name, value in {"poll_seconds": 0.01, "heartbeat_seconds": 0.05, **limits}.items():
        setattr(streams, name, value)
    return streams


def sent(messages: Iterator[str], number: int) -> list[list[str]]:
    """The keys of the next messages that have some."""
    found = (json.loads(one.partition("data: ")[2]) for one in messages if "data: {" in one)
    return [one["keys"] for one in islice(found, number)]


NOTHING = News((), more=False)


def test_facts_of_events_are_read_only_while_a_page_filters() -> None:
    tail = WrittenTail()
    streams = streams_of(tail)
    assert streams.open(ALL, SECONDS)
    assert eventually(lambda: tail.reads > 1)
    filtering = streams.open(ALL._replace(facts=(("model", "a"),)), SECONDS)
    assert filtering
    assert eventually(lambda: tail.facts_read[-1])
    assert not tail.facts_read[0]
    streams.close(filtering)
    assert eventually(lambda: not tail.facts_read[-1])
    streams.stop()


def test_stream_gets_the_rows_that_its_page_shows() -> None:
    news = News((change("c1", model="a"), change("c2", model="b"), Item(EVENTS, "e1", {"model": "a"})), more=False)
    tail = WrittenTail()
    streams = streams_of(tail)
    both, one_model, changes = (
        streams.open(wanted, SECONDS) for wanted in (ALL, Wanted(ALL.topics, (("model", "a"),)), Wanted((CHANGES,)))
    )
    assert both
    assert one_model
    assert changes
    bodies = [stream.messages() for stream in (both, one_model, changes)]
    assert ["ready" in list(islice(body, 2))[1] for body in bodies] == [True] * 3
    tail.left.append(news)
    assert [sent(body, 1) for body in bodies] == [[["c1", "c2", "e1"]], [["c1", "e1"]], [["c1", "c2"]]]
    streams.stop()


def test_stream_names_its_place_first() -> None:
    streams = streams_of(WrittenTail())
    stream = streams.open(ALL, SECONDS)
    assert stream
    messages = stream.messages()
    assert next(messages) == "retry: 1000\n\n"
    assert next(messages) == "id: 1.0\nevent: ready\ndata: \n\n"
    assert next(messages) == ": heartbeat\n\n"
    streams.stop()


def test_message_has_few_keys_and_says_that_there_are_more() -> None:
    data = ALL.data(News([change(f"c{number}") for number in range(MAX_KEYS + 1)], more=False), 1.0)
    assert data
    found = json.loads(data)
    assert (len(found["keys"]), found["keys"][-1], found["more"]) == (MAX_KEYS, f"c{MAX_KEYS}", True)
    # Nothing is named, and something is left out: each page has to ask.
    assert Wanted((EVENTS,)).data(News((change("c1"),), more=True), 1.0) == '{"keys": [], "more": true, "seconds": 1.0}'
    assert Wanted((EVENTS,)).data(News((change("c1"),), more=False), 1.0) is None


def test_few_pages_ask_every_second_and_fifty_every_five() -> None:
    streams = streams_of(WrittenTail())
    paces = []
    for _ in range(50):
        assert streams.open(ALL, 60.0) is not None
        paces.append(streams.pace_seconds)
    streams.stop()
    assert (paces[0], paces[9], paces[19], paces[49]) == (1.0, 1.0, 2.0, 5.0)


def test_streams_beyond_the_limit_are_refused_until_one_closes() -> None:
    streams = streams_of(WrittenTail(), most=2)
    first, second = streams.open(ALL, SECONDS), streams.open(ALL, SECONDS)
    assert first
    assert second
    assert streams.open(ALL, SECONDS) is None
    streams.close(first)
    assert streams.open(ALL, SECONDS)
    streams.stop()


def test_tail_is_read_only_while_a_stream_is_open() -> None:
    tail = WrittenTail()
    streams = streams_of(tail)
    assert tail.reads == 0
    stream = streams.open(ALL, SECONDS)
    assert stream
    assert eventually(lambda: tail.reads > 2)
    streams.close(stream)
    # Its thread forgets itself as its last act.
    assert eventually(lambda: streams._reader is None)
    reads = tail.reads
    again = streams.open(ALL, SECONDS)
    assert again
    assert eventually(lambda: tail.reads > reads)
    streams.stop()


def test_stream_ends_after_its_time_and_with_its_session() -> None:
    streams = streams_of(WrittenTail(), stream_seconds=0.1)
    for seconds in (SECONDS, 0.05):
        stream = streams.open(ALL, seconds)
        assert stream
        # It would go on without end.
        assert list(stream.messages())[-1].startswith(": heartbeat")
    streams.stop()


def test_stream_ends_at_once_where_the_process_stops() -> None:
    streams = streams_of(WrittenTail(), heartbeat_seconds=600)
    stream = streams.open(ALL, SECONDS)
    assert stream
    messages = stream.messages()
    assert [next(messages), next(messages)][1].startswith("id: ")
    streams.stop()
    assert list(messages) == []
    assert streams.open(ALL, SECONDS) is None


def test_client_that_does_not_read_is_dropped() -> None:
    tail = WrittenTail(NOTHING, *(News((change(f"c{number}"),), more=False) for number in range(MAX_WAITING + 2)))
    streams = streams_of(tail)
    slow = streams.open(ALL, SECONDS)
    assert slow
    messages = slow.messages()
    next(messages)
    assert eventually(lambda: not tail.left)
    assert list(messages) == []
    streams.stop()


def test_stream_whose_client_has_left_ends_without_a_heartbeat() -> None:
    ours, theirs = socket.socketpair()
    streams = streams_of(WrittenTail(), heartbeat_seconds=600)
    stream = streams.open(ALL, SECONDS, ours)
    assert stream
    messages = stream.messages()
    assert [next(messages), next(messages)][1].startswith("id: ")
    theirs.close()
    assert list(messages) == []
    ours.close()
    streams.stop()


def test_streams_go_on_while_postgres_is_unavailable() -> None:
    down = PostgresUnavailable("no")
    streams = streams_of(WrittenTail(NOTHING, *[down] * 20, News((change("c1"),), more=False)))
    stream = streams.open(ALL, SECONDS)
    assert stream
    messages = stream.messages()
    assert "ready" in [next(messages), next(messages)][1]
    assert next(messages).startswith(": heartbeat")
    assert sent(messages, 1) == [["c1"]]
    streams.stop()


def test_streams_end_where_their_reader_breaks() -> None:
    streams = streams_of(WrittenTail(NOTHING, ZeroDivisionError()), heartbeat_seconds=600)
    stream = streams.open(ALL, SECONDS)
    assert stream
    assert len(list(stream.messages())) <= 2
    streams.close(stream)
    again = streams.open(ALL, SECONDS)
    assert again
    assert "ready" in list(islice(again.messages(), 2))[1]
    streams.stop()
