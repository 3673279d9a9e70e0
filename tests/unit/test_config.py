"""Settings: what is read from where, what each may be, and that no complaint ever prints a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import config
from service.config import SECRETS, Settings, load, load_alone
from service.config.api_keys import Scope
from service.errors import SettingsError
from tests.support.searching import examples

if TYPE_CHECKING:
    from pathlib import Path

# Every setting that a user may give, with its default.
DEFAULTS: dict[str, Any] = {
    "DATABASE_URL": None,
    "REDIS_URL": None,
    "HEADSHOTPRO_API_URL": "https://server.headshotpro.com/api/v2",
    "HEADSHOTPRO_API_KEY": None,
    "HEADSHOTPRO_WEBHOOK_SECRET": None,
    "WEBHOOK_TOLERANCE_SECONDS": 300,
    "PULL_INTERVAL_SECONDS": 900,
    "HOT_PULL_INTERVAL_SECONDS": 120,
    "RATE_BUDGET": 0.8,
    "DETAIL_BUDGET": 0.1,
    "ACCURACY_BUDGET": 0.05,
    "ACCURACY_SLO": 0.0001,
    "TOMBSTONE_LIMIT": 0.2,
    "FAILED_GRACE_SECONDS": 600,
    "STUCK_AFTER_SECONDS": 14400,
    "ALERT_URLS": None,
    "ALERT_REMINDER_SECONDS": 14400,
    "ALERT_SHOW_NAMES": False,
    "HEARTBEAT_URL": None,
    "MIRROR_API_KEYS": None,
    "CONSOLE_PASSWORD": None,
    "CONSOLE_VIEWER_PASSWORD": None,
    "CONSOLE_SHOW_NAMES": True,
    "CONSOLE_PROXY_USER_HEADER": None,
    "TRUSTED_PROXIES": None,
    "PUBLIC_URL": None,
    "RUNBOOK_URL": None,
    "EVENT_RETENTION_DAYS": 30,
    "HISTORY_RETENTION_DAYS": 0,
    "ERASE_AFTER_DAYS": 30,
    "INBOX_LIMIT": 200_000,
    "WEB_CONCURRENCY": 2,
    "PORT": 8000,
    "WEB_BIND": None,
    "KEEPALIVE_SECONDS": 15,
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
    "HTTPS_PROXY": None,
    "HTTP_PROXY": None,
    "NO_PROXY": None,
}

MALFORMED = [
    ("WEBHOOK_TOLERANCE_SECONDS", "0"),
    ("WEBHOOK_TOLERANCE_SECONDS", "five"),
    ("WEBHOOK_TOLERANCE_SECONDS", "1.5"),
    ("PULL_INTERVAL_SECONDS", "-1"),
    ("HOT_PULL_INTERVAL_SECONDS", "-1"),
    ("RATE_BUDGET", "0"),
    ("RATE_BUDGET", "1.1"),
    ("RATE_BUDGET", "nan"),
    ("DETAIL_BUDGET", "-0.1"),
    ("DETAIL_BUDGET", "nan"),
    ("ACCURACY_BUDGET", "1.1"),
    ("ACCURACY_SLO", "0"),
    ("TOMBSTONE_LIMIT", "inf"),
    ("TOMBSTONE_LIMIT", "nan"),
    ("ALERT_SHOW_NAMES", "maybe"),
    ("EVENT_RETENTION_DAYS", "0"),
    ("WEB_CONCURRENCY", "0"),
    ("PORT", "65536"),
    ("WEB_BIND", "localhost"),
    ("WEB_BIND", "127.0.0.1:8000"),
    ("WEB_BIND", "[]"),
    ("KEEPALIVE_SECONDS", "0"),
    ("LOG_FORMAT", "xml"),
    ("LOG_LEVEL", "loud"),
    ("DATABASE_URL", "mysql://u:hunter2@h/d"),
    ("DATABASE_URL", "postgresql://u:hunter2@h:port/d"),
    ("DATABASE_URL", "postgresql://u:hunter2@[h/d"),
    ("DATABASE_URL", "hunter2"),
    ("REDIS_URL", "http://:hunter2@h"),
    ("REDIS_URL", "redis://:hunter2@h:99999"),
    ("REDIS_URL", "redis://"),
    ("REDIS_URL", "redis://:hunter2@h/mirror"),
    ("REDIS_URL", "redis://:hunter2@h/0/1"),
    ("REDIS_URL", "redis+sentinel://:hunter2@h/service/mirror"),
    ("HEADSHOTPRO_API_URL", "server.headshotpro.com"),
    ("HEADSHOTPRO_API_URL", "ftp://server"),
    ("HEADSHOTPRO_API_URL", "https://user:hunter2@server/api/v2"),
    ("HEADSHOTPRO_API_URL", "https://hunter2@server/api/v2"),
    ("HEADSHOTPRO_API_URL", "https://:hunter2@server/api/v2"),
    ("HEADSHOTPRO_API_URL", "https://@server/api/v2"),
    ("HEADSHOTPRO_API_URL", "https://server/api/v2?key=hunter2"),
    ("HEADSHOTPRO_API_URL", "https://server/api/v2#hunter2"),
    ("PUBLIC_URL", "mirror.example"),
    ("RUNBOOK_URL", "wiki.example/runbook"),
    ("PUBLIC_URL", "https://user:hunter2@mirror.example"),
    ("CONSOLE_SHOW_NAMES", "maybe"),
    ("CONSOLE_PROXY_USER_HEADER", "X-User: hunter2"),
    ("CONSOLE_PROXY_USER_HEADER", "X-User"),
    ("TRUSTED_PROXIES", "hunter2"),
    ("TRUSTED_PROXIES", "10.0.0.0/33"),
    ("TRUSTED_PROXIES", " , "),
    ("LOG_LEVEL", "hunter2"),
    ("HEARTBEAT_URL", "hunter2"),
    ("HEARTBEAT_URL", "ftp://hc.example/hunter2"),
    ("HEADSHOTPRO_WEBHOOK_SECRET", " , "),
    ("MIRROR_API_KEYS", ","),
    ("MIRROR_API_KEYS", "hunter2,ro:"),
    ("MIRROR_API_KEYS", "a=hunter2,a=ro:hunter2"),
    ("MIRROR_API_KEYS", "=hunter2"),
    ("ALERT_URLS", ", ,"),
    ("ALERT_URLS", "hunter2"),
    ("HEADSHOTPRO_API_URL", "https://server.headshotpro.com/api v2"),
    ("HEADSHOTPRO_API_URL", "https://server.headshotpro.com/api/v2?key=hunter2"),
    ("HEADSHOTPRO_API_URL", "https://server.headshotpro.com/\napi/v2"),
    ("PUBLIC_URL", "https://mirror.example/#top"),
    ("DATABASE_URL", "postgresql://u:hunter2\n@h/d"),
    *(("HEADSHOTPRO_API_KEY", key) for key in ("hunter2\n", " hunter2", "hunter2 ", "hun\0ter2", "hun\tter2")),
    *(("HEADSHOTPRO_API_KEY", key) for key in ("hunter2\u00e9", "\N{CYRILLIC SMALL LETTER KA}")),
    ("HEADSHOTPRO_WEBHOOK_SECRET", "hunter2\udcff"),
    ("MIRROR_API_KEYS", "fine,ro:hunter2\u00e9"),
    ("MIRROR_API_KEYS", "fine,hun\x7fter2"),
    ("HTTPS_PROXY", "hunter2"),
    ("HTTPS_PROXY", "socks5://u:hunter2@proxy:1080"),
    ("HTTPS_PROXY", "http://u:hunter2@"),
    ("HTTPS_PROXY", "http://u:hunter2@proxy:99999"),
    ("HTTP_PROXY", "http://u:hunter2@proxy:port"),
    ("HTTP_PROXY", "http://u:hunter2@pro xy:3128"),
    ("HTTP_PROXY", "http://proxy:3128/hunter2"),
    ("HTTP_PROXY", "http://[proxy:3128"),
]


def test_every_setting_has_the_default_that_users_are_told(nowhere: Path) -> None:
    settings = load(environ={}, dotenv=nowhere)
    assert {name.upper(): getattr(settings, name) for name in settings.__struct_fields__} == DEFAULTS


def test_values_are_read_from_the_environment(nowhere: Path) -> None:
    given = {"PORT": "9000", "RATE_BUDGET": "0.5", "ALERT_SHOW_NAMES": "1", "DATABASE_URL": "postgres://h/d", "X": "y"}
    settings = load(environ=given, dotenv=nowhere)
    assert (settings.port, settings.rate_budget, settings.alert_show_names) == (9000, 0.5, True)


@pytest.mark.parametrize("url", ["postgres://u:p@h:5432/d", "postgresql://u:p@h:5432/d"])
def test_both_postgres_url_schemes_become_postgresql(nowhere: Path, url: str) -> None:
    assert load(environ={"DATABASE_URL": url}, dotenv=nowhere).postgres_url == "postgresql://u:p@h:5432/d"


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://:p@h:6379/0", "rediss://h:6380/1?ssl_cert_reqs=none", "redis://u:p@[::1]:1/2"]
)
def test_redis_urls_of_all_providers_pass(nowhere: Path, url: str) -> None:
    assert load(environ={"REDIS_URL": url}, dotenv=nowhere).redis == url


@pytest.mark.parametrize("url", ["postgresql:///d?host=/run/pg", "postgresql://h/d?sslmode=require", "postgres://h"])
def test_postgres_urls_in_the_forms_of_libpq_pass(nowhere: Path, url: str) -> None:
    assert load(environ={"DATABASE_URL": url}, dotenv=nowhere).database_url == url


def test_lists_are_split_at_commas_and_stripped(nowhere: Path) -> None:
    settings = load(environ={"HEADSHOTPRO_WEBHOOK_SECRET": "new, old,", "MIRROR_API_KEYS": "a,ro:b"}, dotenv=nowhere)
    assert settings.webhook_secrets == ("new", "old")
    assert [(one.scope, one.key) for one in settings.api_keys] == [(Scope.WRITE, "a"), (Scope.READ, "b")]


def test_an_empty_setting_is_missing(nowhere: Path) -> None:
    settings = load(environ={"REDIS_URL": "", "PORT": ""}, dotenv=nowhere)
    assert settings.port == 8000
    with pytest.raises(SettingsError, match="REDIS_URL is missing"):
        settings.require("REDIS_URL")


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "HEADSHOTPRO_API_KEY", "HEADSHOTPRO_WEBHOOK_SECRET"])
def test_a_needed_setting_that_is_missing_is_named(nowhere: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is missing") as caught:
        load((name,), environ={}, dotenv=nowhere)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_setting_is_named_and_its_secret_is_not(nowhere: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} ") as caught:
        load(environ={name: value}, dotenv=nowhere)
    words = str(caught.value)
    assert "\n" not in words
    assert "hunter2" not in words
    # The chain of causes would be printed with a traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_all_settings_are_checked_not_only_the_needed_ones(nowhere: Path) -> None:
    with pytest.raises(SettingsError, match=r"^PUBLIC_URL "):
        load(("DATABASE_URL",), environ={"DATABASE_URL": "postgres://h/d", "PUBLIC_URL": "x"}, dotenv=nowhere)


def test_settings_never_show_themselves(nowhere: Path) -> None:
    settings = load(environ={"HEADSHOTPRO_API_KEY": "hunter2"}, dotenv=nowhere)
    assert "hunter2" not in f"{settings} {settings!r}"


def test_a_child_gets_this_environment_with_changes(nowhere: Path) -> None:
    # PATH is there wherever tests run.
    child = config.environment(PATH=None, HOME="/nowhere", NEW_ONE="1")
    assert "PATH" not in child
    assert (child["HOME"], child["NEW_ONE"]) == ("/nowhere", "1")
    assert config.environment()["PATH"]


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DEFAULTS)),
    value=st.one_of(
        st.text(max_size=30),
        st.from_regex(r"(postgres|redis|rediss|https)://[-a-z:@\[\]/?#%&=,0-9.]{0,20}", fullmatch=True),
        st.floats().map(str),
        st.integers().map(str),
    ),
)
def test_any_value_is_taken_or_refused_in_one_line(nowhere: Path, name: str, value: str) -> None:
    try:
        found = load(environ={name: value}, dotenv=nowhere)
    except SettingsError as error:
        words = str(error)
        assert words.startswith(name)
        assert "\n" not in words
        assert name not in SECRETS or len(value) < 12 or value not in words
    else:
        assert isinstance(found, Settings)


def test_settings_as_environment_load_as_they_were() -> None:
    values = {"DATABASE_URL": "postgresql://here/db", "RATE_BUDGET": "0.5", "ALERT_SHOW_NAMES": "1", "PORT": "81"}
    loaded = load(environ=values)
    assert loaded.as_environment() == values
    assert load_alone(loaded.as_environment()) == loaded
    assert Settings().as_environment() == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PULL_INTERVAL_SECONDS", "soon", "it is a whole number, from 1 to 1000000000"),
        ("INBOX_LIMIT", "1", "it is a whole number, 10 or more"),
        ("RATE_BUDGET", "2", "it is a number, over 0 and at most 1"),
        ("DETAIL_BUDGET", "-1", "it is a number, from 0 to 1"),
        ("ALERT_SHOW_NAMES", "maybe", "it is 0 or 1"),
        ("LOG_FORMAT", "xml", "it is console or json"),
        ("LOG_LEVEL", "loud", "it is one of debug, error, info, warning"),
    ],
)
def test_a_malformed_setting_is_explained_in_our_words(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={name: value})
    assert str(caught.value) == f"{name} is malformed: {words}"
