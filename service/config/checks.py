"""Checks of single settings that are more than a type: URLs, proxies, keys. No message repeats a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.addresses import hosts_in_query, parse_sentinel_url
from service.config.proxies import proxy_url
from service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMES = {
    "DATABASE_URL": ("postgresql", "postgres"),
    "REDIS_URL": ("redis", "rediss"),
    "HEADSHOTPRO_API_URL": ("https", "http"),
    "HEARTBEAT_URL": ("https", "http"),
    "PUBLIC_URL": ("https", "http"),
    "RUNBOOK_URL": ("https", "http"),
}


_REDIS_DATABASE = re.compile(r"/?[0-9]*")

# They are printed by `doctor` or sent in notifications.
BARE_URLS = ("HEADSHOTPRO_API_URL", "PUBLIC_URL", "RUNBOOK_URL")


def check_url(name: str, value: str | None) -> None:
    """Check the URL of a server.

    Raises:
        SettingsError: it is malformed, or holds what it must not.
    """
    if value is None:
        return
    schemes = " or ".join(f"{scheme}://" for scheme in SCHEMES[name])
    try:
        # Raises where it names Sentinels and is malformed; one that names them well has no port for Python's parser.
        if name == "REDIS_URL" and (group := parse_sentinel_url(value)):
            value = group.url
        parts = urlsplit(hosts_in_query(value))
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise SettingsError(f"{name} is malformed: it is no URL; it begins with {schemes}") from None
    if name in BARE_URLS and ("@" in parts.netloc or parts.query or parts.fragment):
        raise SettingsError(f"{name} is malformed: it is shown to people, so it holds no user name, password or query")
    if not value.isprintable() or (name in BARE_URLS and " " in value):
        raise SettingsError(f"{name} is malformed: it holds a control character, or a blank where none may be")
    # redis-py takes anything else for database 0, which may be another program's.
    if name == "REDIS_URL" and not _REDIS_DATABASE.fullmatch(parts.path):
        raise SettingsError(
            f"{name} is malformed: behind the host comes the number of a database, such as /0, or nothing"
        )
    # libpq takes the host from the query too (a socket's directory, or several hosts), so only the form is checked.
    if (
        parts.scheme not in SCHEMES[name]
        or not port_is_fine
        or not (parts.netloc or parts.query or name == "DATABASE_URL")
    ):
        raise SettingsError(f"{name} is malformed: it begins with {schemes} and names a host")


def check_proxy(name: str, value: str | None) -> None:
    """Check the URL of a proxy.

    Raises:
        SettingsError: it is malformed.
    """
    try:
        if value is not None:
            proxy_url(value)
    except ValueError:
        # The value may hold a password, so it is not repeated.
        raise SettingsError(f"{name} is malformed: it is http:// or https://, a host and a port") from None


def check_header(name: str, values: Iterable[str]) -> None:
    """Refuse keys that no HTTP header can hold: the first request would fail, and its error might print the key.

    Raises:
        SettingsError: one is such a key.
    """
    for value in values:
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise SettingsError(
                f"{name} is malformed: no HTTP header can hold a blank at its end, a control character or a character "
                "that is not ASCII: copy it once more"
            )
