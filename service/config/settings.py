"""Settings: read once from the environment and `.env`, checked whole, never printed.

Only this package reads the environment. A process calls `load` with the names that it needs and passes the `Settings`
on; nothing else reads variables.

Why: `docs/decisions/0001-settings-by-msgspec.md`.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from service.addresses import hosts_in_query
from service.config.api_keys import parse as parse_keys
from service.config.checks import check_console, check_header, check_proxy, check_url, expectation, find_unknown
from service.config.given import read_dotenv, read_given
from service.config.proxies import bypasses_proxy, proxy_url
from service.errors import SettingsError
from service.redaction import passwords_in, register_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from service.config.api_keys import ApiKey

VENDOR_API_URL = "https://server.headshotpro.com/api/v2"

SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "HEADSHOTPRO_API_KEY",
    "HEADSHOTPRO_WEBHOOK_SECRET",
    "ALERT_URLS",
    "HEARTBEAT_URL",
    "MIRROR_API_KEYS",
    "CONSOLE_PASSWORD",
    "CONSOLE_VIEWER_PASSWORD",
    "HTTPS_PROXY",
    "HTTP_PROXY",
)

Seconds = Annotated[int, Meta(ge=0, le=10**9)]
PositiveSeconds = Annotated[int, Meta(ge=1, le=10**9)]
Days = Annotated[int, Meta(ge=0, le=36500)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """Every setting; docs/settings.md gives each its meaning. Times are in the unit of the name."""

    database_url: str | None = None
    redis_url: str | None = None
    headshotpro_api_url: str = VENDOR_API_URL
    headshotpro_api_key: str | None = None
    headshotpro_webhook_secret: str | None = None
    webhook_tolerance_seconds: PositiveSeconds = 300
    pull_interval_seconds: PositiveSeconds = 900
    hot_pull_interval_seconds: Seconds = 120
    rate_budget: PositiveShare = 0.8
    detail_budget: Share = 0.1
    accuracy_budget: Share = 0.05
    accuracy_slo: PositiveShare = 0.0001
    tombstone_limit: Share = 0.2
    failed_grace_seconds: Seconds = 600
    stuck_after_seconds: PositiveSeconds = 14400
    alert_urls: str | None = None
    alert_reminder_seconds: Seconds = 14400
    alert_show_names: bool = False
    heartbeat_url: str | None = None
    mirror_api_keys: str | None = None
    console_password: str | None = None
    console_viewer_password: str | None = None
    console_show_names: bool = True
    console_proxy_user_header: str | None = None
    trusted_proxies: str | None = None
    public_url: str | None = None
    runbook_url: str | None = None
    event_retention_days: Annotated[int, Meta(ge=1, le=36500)] = 30
    history_retention_days: Days = 0
    erase_after_days: Days = 30
    inbox_limit: Annotated[int, Meta(ge=10)] = 200_000
    web_concurrency: Annotated[int, Meta(ge=1, le=256)] = 2
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    web_bind: str | None = None
    keepalive_seconds: Annotated[int, Meta(ge=1, le=3600)] = 15
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    https_proxy: str | None = None
    http_proxy: str | None = None
    no_proxy: str | None = None

    def __repr__(self) -> str:
        """Hides every value: a settings object in a traceback must not print a secret."""
        return "Settings(…)"

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The accepted secrets, newest first or last as the operator wrote them: each is tried."""
        return tuple(_split(self.headshotpro_webhook_secret))

    @property
    def api_keys(self) -> tuple[ApiKey, ...]:
        """The bearer keys of our own HTTP API.

        Raises:
            SettingsError: an entry is malformed.
        """
        try:
            return parse_keys(_split(self.mirror_api_keys))
        except ValueError as error:
            raise SettingsError(f"MIRROR_API_KEYS is malformed: {error}") from None

    @property
    def secrets(self) -> set[str]:
        """Every secret that these settings hold, and the passwords of their URLs as they are and decoded."""
        found = {*self.webhook_secrets, *(one.key for one in self.api_keys)}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str):
                found |= passwords_in(value) | ({value} if name.upper() in SECRETS else set())
        return found

    @property
    def is_console_on(self) -> bool:
        """Whether a person can log in to the web console in any way."""
        return bool(self.console_password or self.console_viewer_password or self.console_proxy_user_header)

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """TRUSTED_PROXIES.

        Raises:
            SettingsError: one of them is no network.
        """
        try:
            return tuple(ip_network(one, strict=False) for one in _split(self.trusted_proxies))
        except ValueError:
            raise SettingsError(
                "TRUSTED_PROXIES is malformed: it is a list of networks or addresses, such as 10.0.0.0/8,::1"
            ) from None

    def as_environment(self) -> dict[str, str]:
        """Every setting that is not its default, as the environment would give it; secrets too."""
        given = {
            field.encode_name: getattr(self, field.name)
            for field in msgspec.structs.fields(Settings)
            if getattr(self, field.name) != field.default
        }
        return {name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in given.items()}

    @property
    def web_address(self) -> str:
        """The IP address that web listens on; all of the machine's where none is set."""
        return (self.web_bind or "0.0.0.0").strip("[]")  # noqa: S104 - containers need it; `up` binds to loopback

    @property
    def web_url(self) -> str:
        """The URL of the address on which web listens."""
        address = f"[{self.web_address}]" if ":" in self.web_address else self.web_address
        return f"http://{address}:{self.port}"

    @property
    def postgres_url(self) -> str:
        """DATABASE_URL in the one spelling that libpq and SQLAlchemy share."""
        url = hosts_in_query(self.require("DATABASE_URL"))
        return "postgresql://" + url.split("://", 1)[1]

    @property
    def redis(self) -> str:
        """REDIS_URL of a process that needs it."""
        return self.require("REDIS_URL")

    @property
    def api_key(self) -> str:
        """HEADSHOTPRO_API_KEY of a process that needs it."""
        return self.require("HEADSHOTPRO_API_KEY")

    @property
    def webhook_tolerance(self) -> timedelta:
        """WEBHOOK_TOLERANCE_SECONDS: how far an event's own time may lie ahead of its signature."""
        return timedelta(seconds=self.webhook_tolerance_seconds)

    def proxy_for(self, url: str) -> str | None:
        """URL of the proxy through which a request to `url` goes, with its user and password; None: directly."""
        proxy = self.https_proxy if urlsplit(url).scheme == "https" else self.http_proxy
        return proxy_url(proxy) if proxy and not bypasses_proxy(url, self.no_proxy or "") else None

    def require(self, name: str) -> str:
        """The value of a setting that may be missing.

        Raises:
            SettingsError: it is missing.
        """
        value: str | None = getattr(self, name.lower())
        if value is None:
            raise SettingsError(f"{name} is missing: set it in the environment or in .env (or {name}_FILE)")
        return value


def load(
    required: Iterable[str] = (), environ: Mapping[str, str] | None = None, dotenv: Path | None = None
) -> Settings:
    """Read and check every setting that is given, and that the needed ones are there.

    Args:
        required: names of settings this process cannot do without.
        environ: the environment; the process's own by default.
        dotenv: a file of settings that the environment overrides; `.env` of the working directory by default.

    Raises:
        SettingsError: one line that names the setting and says what is wrong.
    """
    layers = dotenv or Path(".env"), os.environ if environ is None else environ
    given = read_given(*layers, known=_known(), secrets=SECRETS)
    settings = _convert(given)
    for name in ("DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_URL", "HEARTBEAT_URL", "PUBLIC_URL", "RUNBOOK_URL"):
        check_url(name, getattr(settings, name.lower()))
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        check_proxy(name, getattr(settings, name.lower()))
    check_header("HEADSHOTPRO_API_KEY", [settings.headshotpro_api_key or ""])
    check_header("MIRROR_API_KEYS", [one.key for one in settings.api_keys])
    for name in ("HEADSHOTPRO_WEBHOOK_SECRET", "MIRROR_API_KEYS", "ALERT_URLS"):
        value = getattr(settings, name.lower())
        if value is not None and not _split(value):
            raise SettingsError(f"{name} holds no value: it is a list with commas between its parts")
    if settings.alert_urls and not re.match(r"[\s,]*\w+://\S", settings.alert_urls):
        # The processes themselves check whether Apprise knows the URL: that takes Apprise itself.
        raise SettingsError("ALERT_URLS is malformed: it is a list of Apprise URLs, such as mailto://… or slack://…")
    check_console(settings)
    try:
        ip_address(settings.web_address)
    except ValueError:
        raise SettingsError("WEB_BIND is malformed: it is an IP address, such as 127.0.0.1, 0.0.0.0 or ::1") from None
    register_secrets(settings.secrets)
    for name in required:
        settings.require(name)
    return settings


def load_alone(given: Mapping[str, str], required: Iterable[str] = ()) -> Settings:
    """The settings that `as_environment` gave, and nothing of this process's environment or `.env`.

    Raises:
        SettingsError: as `load`.
    """
    return load(required, environ=given, dotenv=Path(os.devnull))


def unknown_settings(environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> list[str]:
    """The variables of the environment and `.env` that look like settings and are none; the arguments are `load`'s."""
    in_file = read_dotenv(dotenv or Path(".env"))
    return find_unknown({*(os.environ if environ is None else environ), *in_file}, _known())


def _known() -> set[str]:
    return {*Settings.__struct_encode_fields__, *(f"{name}_FILE" for name in SECRETS)}


def _convert(given: Mapping[str, str]) -> Settings:
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).partition(" - at `$.")[2].rstrip("`")
        raise SettingsError(f"{name} is malformed: {expectation(Settings, name)}") from None


def _split(value: str | None) -> list[str]:
    return [part for part in (piece.strip() for piece in (value or "").split(",")) if part]
