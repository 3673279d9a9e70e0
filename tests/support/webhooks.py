"""Webhook bodies, and variants that are broken in one or two places."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

Place = tuple[str, ...]

# As the vendor's page shows it; `$EVENT` and `$MODEL` are ids to be filled in.
WHOLE: dict[str, Any] = {
    "id": "evt_$EVENT",
    "event": "model.status.updated",
    "createdAt": "2026-01-02T03:04:05.000Z",
    "objectType": "model",
    "object": {
        "_id": "$MODEL",
        "uid": "anon_abc123",
        "title": "Jürgen Müller 🙂",
        "trigger": "male",
        "status": "active",
        "isDevelopment": False,
        "finishedAt": "2026-01-02T03:04:04.000Z",
        "deletedAt": None,
        "inviteExpiresAt": None,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "organization": "64f0aa11bb22cc33dd44ee55",
    },
}
PLACES: list[Place] = [*((name,) for name in WHOLE), *(("object", name) for name in WHOLE["object"])]

times = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(str),
    st.sampled_from(
        [
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59.999999-14:00",
            "2016-12-31T23:59:60Z",
            "2026-02-30",
            "0",
            "\0",
        ]
    ),
)
texts = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs", "Cc", "Cn"]), max_size=4),
    st.sampled_from(["", "\0", "\ud800", "x" * 300, "model.deleted", "deleted", "model", "organization", "brandNew"]),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), texts, times)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def _replaced(document: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    inner = changed[place[0]] if len(place) == 2 else changed
    if isinstance(inner, dict):
        inner[place[-1]] = value
    return changed


def _removed(document: dict[str, Any], place: Place) -> dict[str, Any]:
    changed = _replaced(document, place, None)
    inner = changed[place[0]] if len(place) == 2 else changed
    if isinstance(inner, dict):
        del inner[place[-1]]
    return changed


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    """The whole body with one or two places replaced, and perhaps one removed."""
    document = WHOLE
    for _ in range(draw(st.integers(0, 2))):
        document = _replaced(document, draw(st.sampled_from(PLACES)), draw(st.one_of(values, times)))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.sampled_from(PLACES[:5] if not isinstance(document["object"], dict) else PLACES))
        document = _removed(document, place)
    return document


def _nested(body: bytes, depth: int) -> bytes:
    return body.replace(b'"male"', b"[" * depth + b'"male"' + b"]" * depth)


def _doubled(body: bytes, place: Place) -> bytes:
    """A key twice, the second time with another value."""
    name = json.dumps(place[-1]).encode()
    return body.replace(name + b":", name + b':"twice",' + name + b":", 1)


# The damage that bytes may take on their way.
_MUTATIONS: list[st.SearchStrategy[Callable[[bytes], bytes]]] = [
    st.just(lambda body: b"\xef\xbb\xbf" + body),
    st.sampled_from(["utf-16", "utf-16-be", "utf-32", "utf-7"]).map(
        lambda name: lambda body: body.decode("utf-8", "replace").encode(name)
    ),
    st.integers(1, 300).map(lambda end: lambda body: body[:-end]),
    st.sampled_from([5, 100, 900, 1100, 5000, 60_000]).map(lambda depth: lambda body: _nested(body, depth)),
    st.sampled_from(PLACES).map(lambda place: lambda body: _doubled(body, place)),
    st.sampled_from([b"NaN", b"Infinity", b"1e400", b"-0", b"9" * 5000, b"'", b"01"]).map(
        lambda word: lambda body: body.replace(b"false", word)
    ),
    st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)).map(
        lambda cut: lambda body: body[: cut[0]] + cut[1] + body[cut[0] + len(cut[1]) :]
    ),
    st.tuples(
        st.integers(0, 400), st.sampled_from([b"\0", b"\\u0000", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"\n"])
    ).map(lambda cut: lambda body: body[: cut[0]] + cut[1] + body[cut[0] :]),
]


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    body = json.dumps(draw(_documents()), ensure_ascii=True, separators=(",", ":")).encode()
    for wound in draw(st.lists(st.one_of(_MUTATIONS), max_size=1)):
        body = wound(body)
    return body


bodies = st.one_of(_bodies(), values.map(json.dumps).map(str.encode), st.binary(max_size=40))
