"""The tree of errors, and the one error that is a response of web."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from service import errors
from service.errors import ApiError, MirrorError
from service.redaction import register_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator


def drawn() -> Iterator[tuple[str, str]]:
    """Each error of the drawing with its parent."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip("│├└─ ").partition(" ")[0]
        if line.startswith("MirrorError") or name != line.partition(" ")[0]:
            depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
            path[depth:] = [name]
            yield name, path[depth - 1] if depth else "Exception"


def defined(root: type[Exception]) -> Iterator[tuple[str, str]]:
    yield root.__name__, root.__bases__[0].__name__
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from defined(child)


def test_drawing_shows_every_error_under_its_parent() -> None:
    assert sorted(drawn()) == sorted(defined(MirrorError))


def test_body_of_a_refusal_has_the_vendors_form_and_no_secret() -> None:
    register_secrets(["hunter2-of-the-tests"])
    refusal = ApiError(409, "CONFLICT", "hunter2-of-the-tests is busy", headers={"Retry-After": "2"})
    document = json.loads(refusal.body())
    assert (document["success"], document["code"]) == (False, "CONFLICT")
    assert "hunter2" not in document["error"]
    assert "is busy" in document["error"]
    register_secrets([])
