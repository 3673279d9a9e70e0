"""How deep a webhook body may be nested, and what finding that out costs."""

from __future__ import annotations

import json

import pytest

from service.upstream.json_text import MAX_DEPTH, refuse_too_deep
from service.upstream.login_links import without_login_links
from service.upstream.mending import repair_json


def test_brackets_in_texts_are_no_levels() -> None:
    refuse_too_deep(b'{"a": "' + b'[{\\"' * MAX_DEPTH + b'"}')
    refuse_too_deep(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    refuse_too_deep(b"[[]" * (MAX_DEPTH // 2) + b"]" * (MAX_DEPTH // 2))
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} levels"):
        refuse_too_deep(b"[" * (MAX_DEPTH + 1))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("rest", [b'\\"', b'"', b"\\", b'"a'])
def test_text_without_end_takes_no_longer_than_another(rest: bytes) -> None:
    """It took seconds for 30 KB, and minutes for a body of the greatest length."""
    body = b'{"a": "' + b"[" * (MAX_DEPTH + 1) + rest * 130_000
    refuse_too_deep(body)


@pytest.mark.timeout(20)
def test_text_without_end_is_searched_once_for_links_and_records() -> None:
    body = b'{"signedUrl":"' + b'\\"' * 120_000
    assert len(without_login_links(body)) < len(body)
    with pytest.raises(json.JSONDecodeError):
        repair_json(body)
