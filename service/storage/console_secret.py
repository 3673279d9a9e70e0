"""`console_secret`: the random secret with which web signs the console's sessions, and its previews."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECRET_BYTES = 32


def read_or_create(connection: Connection) -> str:
    """The secret; the first process that needs it makes it, and all others get the same one."""
    values = {"secret": secrets.token_hex(SECRET_BYTES)}
    connection.execute(_CREATE, values)
    return str(connection.execute(_READ).scalar_one())


_CREATE = text(
    """
    INSERT INTO headshotpro.console_secret (id, secret, created_at)
    SELECT 1, :secret, now() WHERE NOT EXISTS (SELECT FROM headshotpro.console_secret)
    ON CONFLICT DO NOTHING
    """
)
_READ = text("SELECT secret FROM headshotpro.console_secret WHERE id = 1")
