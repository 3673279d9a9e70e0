"""`signedUrl` is taken out of a body wherever it is, and nothing else is."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.upstream.login_links import remove_login_links, without_login_links

if TYPE_CHECKING:
    from collections.abc import Callable

LINK = '"https://login.example/?token=leaktoken"'


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (f'{{"signedUrl": {LINK}}}', "{}"),
        (f'{{"signedUrl":{LINK},"a":1}}', '{"a":1}'),
        (f'{{"a":1,"signedUrl":{LINK}}}', '{"a":1}'),
        (f'{{"a":1,"signedUrl":{LINK},"signedUrl":{LINK}}}', '{"a":1}'),
        (f'{{"a":1 , "signedUrl" : {LINK} , "b":[2]}}', '{"a":1,"b":[2]}'),
        (f'{{"a":[{{"b":{{"signedUrl":{LINK}}}}}]}}', '{"a":[{"b":{}}]}'),
        # The decoded name counts.
        (f'{{"\\u0073ignedUrl":{LINK},"a":1}}', '{"a":1}'),
        (f'{{"signed\\u0055\\u0072\\u006C":{LINK},"a":1}}', '{"a":1}'),
        # Its value may be anything.
        ('{"signedUrl":{"a":[1,{"b":"}"}]},"a":1}', '{"a":1}'),
        ('{"signedUrl":[["]"],"\\"]"],"a":1}', '{"a":1}'),
        ('{"signedUrl":null,"a":1}', '{"a":1}'),
        # It may be in JSON that is a text of the body, encoded once or twice.
        ('{"raw":"{\\"a\\":1,\\"signedUrl\\":\\"x\\"}","b":2}', '{"raw":"{\\"a\\":1}","b":2}'),
        ('["{\\"a\\":\\"{\\\\\\"signedUrl\\\\\\":5}\\"}"]', '["{\\"a\\":\\"{}\\"}"]'),
        ('["\\u007b\\u0022signed\\u0055rl\\u0022:1}"]', '["{}"]'),
        # A number keeps its form.
        ('{"signedUrl":1,"a":1.50e400}', '{"a":1.50e400}'),
        # No JSON at all: what looks like one goes.
        (f'{{"a": tru, "signedUrl": {LINK}', '{"a":tru'),
    ],
)
def test_login_link_is_taken_out_wherever_it_is(body: str, left: str) -> None:
    assert without_login_links(body.encode()) == left.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"title": "signedUrl"}',
        b'{"title": "signedUrl : ", "a": ["signedUrl"]}',
        b'{"signedUrls": 1, "SignedUrl": 2}',
        b'{"title": "\\u0041nn\\ud800", "a":  1}',
        b'{"\\"signedUrl\\"": 1}',
        b'{"\\q\\u0073": 1}',
        b'\xff"\\u0073',
        b"",
    ],
)
def test_body_without_login_link_keeps_every_byte(body: bytes) -> None:
    assert without_login_links(body) == body


def test_link_beneath_sixty_thousand_lists_is_taken_out() -> None:
    body = b"[" * 60_000 + b'{"signedUrl":' + b"[" * 60_000 + b"]" * 60_000 + b"}" + b"]" * 60_000
    assert without_login_links(body) == b"[" * 60_000 + b"{}" + b"]" * 60_000


@pytest.mark.parametrize(
    "part",
    [
        '"signedUrl":{"a":[1,"}"]}',
        '"signedUrl":1',
        '"a":{"signedUrl":1}',
        '"a":"{\\"signedUrl\\":1}"',
        '"signed\\u0055rl":[]',
    ],
)
def test_time_grows_with_the_body_and_not_with_its_square(part: str) -> None:
    def seconds(number: int) -> float:
        body = ("{" + ",".join([part] * number) + "}").encode()
        return min(_timed(lambda: without_login_links(body)) for _ in range(3))

    # Sixteen times the body took 256 times as long.
    assert seconds(8000) < 100 * max(seconds(500), 0.0005)


def _timed(work: Callable[[], object]) -> float:
    # Processor time: what else the machine does is no part of it.
    before = time.thread_time()
    work()
    return time.thread_time() - before


def test_payload_of_an_older_release_is_shown_without_its_link() -> None:
    assert remove_login_links({"object": {"signedUrl": "x", "_id": "a"}}) == {"object": {"_id": "a"}}
    assert remove_login_links('{"signedUrl": "x", _id') == "{_id"
    assert remove_login_links(None) is None


def written(value: Any, escaped: bool) -> str:
    """A value as JSON; objects are lists of pairs, so that a name may come twice."""
    if isinstance(value, tuple):
        members = (f"{name_of(name, escaped)}: {written(inner, escaped)}" for name, inner in value)
        return "{" + " ,".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(inner, escaped) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=escaped)


def name_of(name: str, escaped: bool) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"' if escaped else json.dumps(name)


def pruned(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple((name, pruned(inner)) for name, inner in value if name != "signedUrl")
    return [pruned(inner) for inner in value] if isinstance(value, list) else value


NAMES = st.sampled_from(["signedUrl", "signedUrl", "a", "signedUrl ", '"signedUrl"', "\\"])
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(st.tuples(NAMES, inner), max_size=3).map(tuple)),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_only_login_links_are_taken_out_of_any_body(value: Any, escaped: bool) -> None:
    left = without_login_links(written(value, escaped).encode())
    assert json.loads(left, object_pairs_hook=tuple) == pruned(value)
