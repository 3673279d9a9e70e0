"""Checks of the settings that let people into the web console. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from service.errors import SettingsError

if TYPE_CHECKING:
    from service.config.settings import Settings

Network = IPv4Network | IPv6Network

# RFC 9110: the characters of a field name.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


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
