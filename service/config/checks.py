"""Checks of settings that are more than a type, and texts about types and names. Pure. No message repeats a value."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from service.addresses import hosts_in_query, parse_sentinel_url
from service.config.proxies import proxy_url
from service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from service.config.settings import Settings

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
# RFC 9110: the characters of a field name.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# No other program's variables begin so.
OWN_PREFIXES = ("HEADSHOTPRO_", "MIRROR_API_")
# A shorter name is like too many others.
MIN_NAME_LENGTH = 6


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


def check_console(settings: Settings) -> None:
    """Check the settings of the console together.

    Raises:
        SettingsError: one is malformed, lacks its counterpart, or would give viewers the rights of operators.
    """
    networks = settings.proxy_networks
    if settings.trusted_proxies is not None and not networks:
        raise SettingsError("TRUSTED_PROXIES holds no value: it is a list with commas between its parts")
    header = settings.console_proxy_user_header
    if header is not None and not _HEADER_NAME.fullmatch(header):
        raise SettingsError(
            "CONSOLE_PROXY_USER_HEADER is malformed: it is the name of an HTTP header, such as X-Forwarded-User"
        )
    if header is not None and not networks:
        raise SettingsError(
            "CONSOLE_PROXY_USER_HEADER needs TRUSTED_PROXIES, the networks from which the header is accepted: set both"
        )
    if settings.console_password is not None and settings.console_password == settings.console_viewer_password:
        raise SettingsError("CONSOLE_VIEWER_PASSWORD is the same as CONSOLE_PASSWORD: viewers need one of their own")


def find_unknown(given: Iterable[str], known: Collection[str]) -> list[str]:
    """A sentence about each of some variables that looks like a setting and is none, and which it may be meant for.

    A misspelt setting would be ignored in silence.
    """
    sentences = []
    for name in sorted({*given} - {*known}):
        if suggestion := _suggest(name, known):
            sentences.append(f"{name} is no setting and is ignored: did you mean {suggestion}?")
        elif name.upper().startswith(OWN_PREFIXES):
            sentences.append(f"{name} is no setting and is ignored; docs/settings.md lists every setting")
    return sentences


def _suggest(name: str, known: Collection[str]) -> str | None:
    """The nearest name of a setting, where one is near: by its case, an underscore, or a letter or two."""
    if len(name) < MIN_NAME_LENGTH or name.lower().endswith("_proxy"):
        return None
    plain = name.upper().replace("_", "")
    alike = [
        one for one in known if one[0] == plain[0] and len(one) >= MIN_NAME_LENGTH and abs(len(one) - len(name)) <= 2
    ]
    if same := [one for one in alike if one.replace("_", "") == plain]:
        return same[0]
    return next(iter(get_close_matches(name.upper(), alike, n=1, cutoff=0.88)), None)


def expectation(settings: type[msgspec.Struct], name: str) -> str:
    """The allowed values of the setting that the environment has under this name."""
    described = inspect.type_info(settings)
    if not isinstance(described, inspect.StructType):
        raise TypeError("settings are a struct")
    wanted = next(field.type for field in described.fields if field.encode_name == name)
    match wanted:
        case inspect.BoolType():
            return "it is 0 or 1"
        case inspect.LiteralType(values=values):
            return (
                f"it is {' or '.join(map(str, values))}"
                if len(values) == 2
                else f"it is one of {', '.join(map(str, values))}"
            )
        case inspect.IntType(ge=least, le=most):
            return f"it is a whole number, {_bounds(least, most)}"
        case inspect.FloatType(gt=over, ge=least, le=most):
            return f"it is a number, {_bounds(least, most) if over is None else f'over {over:g} and at most {most:g}'}"
    return "it is a text"


def _bounds(least: float | None, most: float | None) -> str:
    return f"{least:g} or more" if most is None else f"from {least:.0f} to {most:.0f}"
