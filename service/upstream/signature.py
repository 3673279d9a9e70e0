"""The vendor's webhook signature: made by the sandbox's twin of this and by tests, checked at the endpoint.

HMAC-SHA256, keyed with the secret as text, over `{timestamp}.{raw body}`, says the vendor's webhook page.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE_HEADER = "X-HeadshotPro-Signature"
TIMESTAMP_HEADER = "X-HeadshotPro-Timestamp"

# Python's int() would also take signs, underscores and digits of other scripts.
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")


class Verdict(Enum):
    """The verdict on a signature."""

    VALID = "valid"
    # Rightly signed, but its timestamp is further off than the tolerance, before or after.
    STALE = "stale"
    FORGED = "forged"


def sign(secret: str, timestamp: int | str, body: bytes) -> str:
    """The value of the signature header for a body sent at a time in Unix seconds: `sha256=<hex>`."""
    message = f"{timestamp}.".encode() + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def has_valid_signature_format(signature: str | None, timestamp: str | None) -> bool:
    """Whether both headers are there and in the form of the vendor's: what can be judged before the body is read."""
    if signature is None or timestamp is None:
        return False
    return bool(_SIGNATURE.fullmatch(signature) and _UNIX_SECONDS.fullmatch(timestamp))


def verify(
    secrets: Sequence[str],
    signature: str | None,
    timestamp: str | None,
    body: bytes,
    *,
    now: float,
    tolerance: int,
) -> Verdict:
    """Judge a delivery by its two headers, as they were received; each secret is tried, in constant time.

    `now` is our clock, Unix seconds; the timestamp may be off by `tolerance` seconds, both ways.
    """
    if signature is None or timestamp is None or not has_valid_signature_format(signature, timestamp):
        return Verdict.FORGED
    matches = [hmac.compare_digest(sign(secret, timestamp, body), signature) for secret in secrets]
    if not any(matches):
        return Verdict.FORGED
    return Verdict.VALID if abs(now - int(timestamp)) <= tolerance else Verdict.STALE
