"""The form that every error of ours has: the vendor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import jsonify

if TYPE_CHECKING:
    from flask import Response


def error_answer(status: int, code: str, words: str) -> tuple[Response, int]:
    """An error body of ours: `success`, `error`, `code`, as the vendor's."""
    return jsonify(success=False, error=words, code=code), status
