"""An upstream over HTTP whose list and single GETs answer whatever a test wants: odd records, ignored parameters."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "/api/v2/organization"

# An invalid UTF-8 byte, written into a JSON text as this.
BAD_BYTE = "BAD-BYTE"

Document = dict[str, Any]


def model(number: int, **fields: Any) -> Document:
    """A record of the list; the newest has the greatest number."""
    return {
        "id": f"{0x60000000 + number:08x}{number:016x}",
        "uid": f"user{number}",
        "email": f"person{number}@example.com",
        "title": f"Person {number}",
        "status": "active",
        "teamId": None,
        "teamName": None,
        "isDevelopment": False,
        "createdAt": f"2024-01-01T00:{number // 60 % 60:02}:{number % 60:02}.000Z",
        "finishedAt": None,
        **fields,
    }


def models(count: int) -> list[Any]:
    """Records in the order of creation."""
    return [model(number) for number in range(count)]


class ListVendor:
    """The upstream.

    Attributes:
        url: base of its API.
        records: its list, in order.
        page: makes the answer to a list request out of limit, offset and status.
        singles: answers to GETs of models by id, where they are not those that the list gives: status and document.
        organization: the answer about the organization.
        created: the answer to a create.
        asked: paths with their parameters, in order.
    """

    def __init__(self, records: list[Any]) -> None:
        self.records = records
        self.page: Callable[[int, int, str | None], Any] = self.honest
        self.singles: dict[str, tuple[int, Any]] = {}
        self.organization: Any = {"success": True, "organization": {"uid": "org1", "name": "Acme"}}
        self.created: tuple[int, Any] = (501, {})
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v2"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def lists(self) -> int:
        """How many list requests were answered."""
        return sum(1 for path in self.asked if path.startswith("/models?"))

    def gets(self, model_id: str) -> int:
        """How many GETs of a model were answered."""
        return self.asked.count(f"/models/{model_id}")

    def honest(self, limit: int, offset: int, status: str | None) -> Document:
        """A page as the upstream documents it."""
        chosen = [one for one in self.records if status is None or (isinstance(one, dict) and one["status"] == status)]
        return paged(chosen[offset : offset + limit], len(chosen), limit, offset)

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and document of a request by its path below the organization's."""
        self.asked.append(path)
        parts = urlsplit(path)
        if not parts.path:
            return 200, self.organization
        if parts.path == "/models":
            given = {name: values[0] for name, values in parse_qs(parts.query).items()}
            return 200, self.page(int(given["limit"]), int(given["offset"]), given.get("status"))
        model_id = unquote(parts.path.removeprefix("/models/"))
        if model_id in self.singles:
            return self.singles[model_id]
        for one in self.records:
            if isinstance(one, dict) and one.get("id") == model_id:
                return 200, {"success": True, "model": {"photoCount": 40, "favoritePhotoId": None, **one}}
        return 404, {"success": False, "error": "Model not found", "code": "NOT_FOUND"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.reply(*vendor.answer(self.path.removeprefix(PREFIX)))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(*vendor.created)

            def reply(self, status: int, document: Any) -> None:
                text = document if isinstance(document, str) else json.dumps(document)
                body = text.encode().replace(BAD_BYTE.encode(), b"\xff")
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: Any) -> None:
                pass

        return Handler


def paged(shown: list[Any], total: Any, limit: int, offset: int, has_more: Any = None) -> Document:
    """A page of the list; whether more follow comes from the total unless it is given."""
    more = offset + len(shown) < total if has_more is None else has_more
    pagination = {"total": total, "limit": limit, "offset": offset, "hasMore": more}
    return {"success": True, "models": shown, "pagination": pagination}


@contextmanager
def list_vendor(records: list[Any]) -> Iterator[ListVendor]:
    """A running upstream that ends with the block."""
    vendor = ListVendor(records)
    vendor.start()
    try:
        yield vendor
    finally:
        vendor.stop()
