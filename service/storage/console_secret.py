"""`console_secret`: the random secret with which web signs the console's sessions, and its previews."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from service.storage import queries

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECRET_BYTES = 32


def read_or_create(connection: Connection) -> str:
    """The secret; the first process that needs it makes it, and all others get the same one."""
    queries.run(connection, _CREATE, secret=secrets.token_hex(SECRET_BYTES))
    return str(queries.value(connection, _READ))


_CREATE = """
    INSERT INTO headshotpro.console_secret (id, secret, created_at)
    SELECT 1, :secret, now() WHERE NOT EXISTS (SELECT FROM headshotpro.console_secret)
    ON CONFLICT DO NOTHING
"""
_READ = "SELECT secret FROM headshotpro.console_secret WHERE id = 1"
