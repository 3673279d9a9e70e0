"""JSON out of what is almost JSON, so that one odd record of a page does not spoil the others."""

from __future__ import annotations

import json
import re
from typing import Any

from service.upstream.json_text import finite_or_none, integer_or_none

# A text, also one without end, or a character that opens, parts or closes something outside of texts.
_MARK = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{},]', re.DOTALL)
_OPENED_BY = {"]": "[", "}": "{"}
_OUTERMOST_LIST = ["{", "["]


def repair_json(body: bytes) -> bytes:
    """Repair a document that is not quite JSON; the result is JSON in UTF-8.

    Bytes that are not UTF-8 become U+FFFD. `NaN`, `Infinity` and numbers out of range become null. So does each element
    of the outermost lists that cannot be read even then.

    Raises:
        ValueError: the document cannot be read even then.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        try:
            value = _loads(text)
        except ValueError:
            value = _loads(_without_broken_elements(text))
        return json.dumps(value).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def _loads(text: str) -> Any:
    return json.loads(
        text,
        strict=False,
        parse_float=finite_or_none,
        parse_int=integer_or_none,
        parse_constant=lambda _name: None,
    )


def _without_broken_elements(text: str) -> str:
    """The text with `null` for each element of the outermost lists that is no JSON.

    Raises:
        ValueError: the brackets do not match.
    """
    pieces: list[str] = []
    opened: list[str] = []
    done = begin = 0
    follows_another = False
    for mark in _MARK.finditer(text):
        sign = mark[0]
        if opened == _OUTERMOST_LIST and sign in ",]":
            element = text[begin : mark.start()]
            if element.strip() or sign == "," or follows_another:
                pieces += [text[done:begin], element if _is_json(element) else "null"]
                done = mark.start()
            begin = mark.end()
            follows_another = sign == ","
        if sign in "[{":
            opened.append(sign)
            if opened == _OUTERMOST_LIST:
                begin = mark.end()
        elif sign in "]}" and (not opened or opened.pop() != _OPENED_BY[sign]):
            raise ValueError("the brackets do not match")
    return "".join((*pieces, text[done:]))


def _is_json(text: str) -> bool:
    try:
        _loads(text)
    except ValueError:
        return False
    return True
