"""Talking to the sandbox in tests: its API as a client would, its control API as a puppeteer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import urllib3

if TYPE_CHECKING:
    from collections.abc import Iterator


class RunningSandbox(Protocol):
    """The address and secrets of a started sandbox."""

    url: str
    api_key: str
    webhook_secret: str
    control_url: str


class ApiResponse(NamedTuple):
    status: int
    document: Any
    headers: urllib3.HTTPHeaderDict


class SandboxClient:
    """One client of one sandbox; it neither retries nor interprets."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=20)
        self._sandbox = sandbox

    def api(self, method: str, path: str, body: object = None, key: str | None = None) -> ApiResponse:
        """A call of the vendor's API, by its path below `/api/v2`."""
        headers = {"Authorization": f"Bearer {key or self._sandbox.api_key}"}
        return self._call(method, self._sandbox.url + path, body, headers)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """A control call that succeeds, by its path below `/_sandbox`: its document."""
        answer = self._call(method, self._sandbox.control_url + path, body, {})
        assert answer.status < 300, answer
        return answer.document

    def failing_control(self, method: str, path: str, body: object = None) -> ApiResponse:
        """A control call that fails."""
        answer = self._call(method, self._sandbox.control_url + path, body, {})
        assert answer.status >= 400, answer
        return answer

    def walk(self, limit: int, query: str = "") -> Iterator[dict[str, Any]]:
        """Every model of the list, page after page, without overlap."""
        offset, more = 0, True
        while more:
            answer = self.api("GET", f"/organization/models?limit={limit}&offset={offset}{query}")
            yield from answer.document["models"]
            offset += limit
            more = answer.document["pagination"]["hasMore"]

    def _call(self, method: str, url: str, body: object, headers: dict[str, str]) -> ApiResponse:
        sent = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        answer = self._http.request(method, url, body=sent, headers=headers)
        return ApiResponse(answer.status, msgspec.json.decode(answer.data), answer.headers)
