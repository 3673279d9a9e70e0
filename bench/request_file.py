"""Signed deliveries in a file, each of another event and all of one length, so that a client only has to read on.

A body that is sent twice would not be the real work: the endpoint keeps each delivery, and no part of the way may
answer out of what it remembers.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.support.system import SECRET, WEBHOOK_PATH, signed
from tests.support.webhooks import WHOLE

if TYPE_CHECKING:
    from pathlib import Path

MODELS = 5_000


class RequestFile(NamedTuple):
    """A file of requests.

    Attributes:
        path: the file.
        size: bytes of each request, its headers included.
        body_at: where its body begins.
        count: how many there are.
    """

    path: Path
    size: int
    body_at: int
    count: int


def write_requests(path: Path, count: int) -> RequestFile:
    """Write requests that the endpoint takes for the next five minutes; what stood in the file is gone."""
    template = json.dumps(WHOLE, ensure_ascii=False)
    nonce, now = secrets.token_hex(8), time.time()
    requests = [_request(template, f"{nonce}{number:016x}", number % MODELS, now) for number in range(count)]
    (size,) = {len(request) for request in requests}
    path.write_bytes(b"".join(requests))
    return RequestFile(path, size, requests[0].index(b"\r\n\r\n") + 4, count)


def _request(template: str, event: str, model: int, at: float) -> bytes:
    body = template.replace("$EVENT", event).replace("$MODEL", f"{int(at):08x}{model:016x}").encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body, secret=SECRET, at=at).items())
    return (
        f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
