"""An example of a call: a request that works, and its response."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Example(NamedTuple):
    """A request and its response.

    Attributes:
        path: below the base URL, with parameters.
        response: the document.
        body: of the request.
        headers: of the request, beside the key.
    """

    path: str
    response: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}

    @property
    def response_text(self) -> str:
        """The document in lines, its fields in their order."""
        return json.dumps(self.response, indent=2, ensure_ascii=False)

    def curl(self, method: str, base_url: str) -> str:
        """The command that sends it, with the key in `$KEY`."""
        lines = [f'curl -s "{base_url}{self.path}"', '-H "Authorization: Bearer $KEY"']
        if method != "get":
            lines[0] = lines[0].replace("curl -s", f"curl -s -X {method.upper()}")
        lines += [f'-H "{name}: {value}"' for name, value in self.headers.items()]
        if self.body is not None:
            lines += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(self.body))}"]
        return " \\\n  ".join(lines)
