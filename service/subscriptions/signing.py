"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), by its own library."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PREFIX = "whsec_"
# The specification asks for 24 to 64 bytes.
SECRET_BYTES = 32


def new_secret() -> str:
    """A random secret in the form that receivers' libraries take."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(message_id: str, at: datetime, body: bytes, signing_secrets: Sequence[str]) -> dict[str, str]:
    """The headers that identify and sign a request.

    Args:
        message_id: the same for every try of a message.
        at: when this try is sent, in UTC.
        body: JSON in UTF-8.
        signing_secrets: each adds a signature; a receiver needs to know only one of them.
    """
    signatures = (Webhook(secret).sign(message_id, at, body.decode()) for secret in signing_secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
