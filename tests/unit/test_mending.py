"""Pages in which something is no JSON: what is odd is replaced, everything else stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.upstream.mending import repair_json

GOOD = {
    "success": True,
    "models": [{"id": "a", "teams": [1, {"b": "],[}{\\"}]}, {"id": "b"}],
    "pagination": {"total": 2},
}


def page(second: bytes, first: bytes = b'{"id": "a"}') -> bytes:
    return b'{"success": true, "models": [%s, %s], "pagination": {"total": 2}}' % (first, second)


def models(body: bytes) -> Any:
    document = json.loads(repair_json(body))
    assert document["success"] is True
    assert document["pagination"] == {"total": 2}
    return document["models"]


def test_what_is_json_stays_the_same() -> None:
    assert json.loads(repair_json(json.dumps(GOOD).encode())) == GOOD
    assert json.loads(repair_json(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())) == GOOD


@pytest.mark.parametrize(
    "second",
    [
        b'{"id": "b", "x": undefined}', b'{"id": "b", "x": }', b'{"id": "b", "x": "\\x"}', b'{"id": "b" "c"}',
        b"undefined", b'{"id": "b",}', b"{'id': 1}", b"",
    ],
)  # fmt: skip
def test_a_record_that_is_no_json_is_null_and_the_others_stay(second: bytes) -> None:
    assert models(page(second)) == [{"id": "a"}, None]
    assert models(page(b'{"id": "c"}', second)) == [None, {"id": "c"}]


@pytest.mark.parametrize(
    ("second", "value"),
    [
        (b'{"title": "Zo\xff"}', {"title": "Zo\ufffd"}),
        (b'{"title": "Zo\x01"}', {"title": "Zo\x01"}),
        (b'{"n": NaN, "i": -Infinity, "f": 1e999}', {"n": None, "i": None, "f": None}),
        (b'{"n": %s}' % (b"9" * 5000), {"n": None}),
        (b'{"title": "\\ud83d"}', {"title": "\ud83d"}),
    ],
    ids=["no utf-8", "control character", "no number", "long number", "half an emoji"],
)
def test_a_value_that_is_no_json_is_replaced_alone(second: bytes, value: Any) -> None:
    assert models(page(second)) == [{"id": "a"}, value]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe", page(b'{"id": "b"}')[:-4], page(b'{"id": b"}'), page(b'{"id": "b"]'), b"[" * 100_000],
    ids=["empty", "html", "utf-16", "cut", "lone quote", "wrong bracket", "deep"],
)
def test_a_whole_page_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        repair_json(body)
