"""A misspelt setting is named in a warning, and variables of other programs are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.config import unknown_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HEADSHOTPRO_APIKEY", "HEADSHOTPRO_API_KEY"),
        ("HEADSHOTPRO_API_KEYS", "HEADSHOTPRO_API_KEY"),
        ("headshotpro_api_key", "HEADSHOTPRO_API_KEY"),
        ("HEADSHOTPRO_WEBHOOK_SECRET_FLIE", "HEADSHOTPRO_WEBHOOK_SECRET_FILE"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("REDISURL", "REDIS_URL"),
        ("MIRROR_API_KEY", "MIRROR_API_KEYS"),
        ("ALERT_URL", "ALERT_URLS"),
        ("PULL_INTERVAL_SECOND", "PULL_INTERVAL_SECONDS"),
        ("HEADSHOTPRO_TOKEN", None),
        ("MIRROR_API_TOKEN", None),
    ],
)
def test_name_that_looks_like_a_setting_is_found(tmp_path: Path, name: str, meant: str | None) -> None:
    secret = "hunter2"
    (found,) = unknown_settings({name: secret}, tmp_path / ".env")
    ending = f": did you mean {meant}?" if meant else "; docs/settings.md lists every setting"
    assert found == f"{name} is no setting and is ignored{ending}"
    assert secret not in found
    (tmp_path / ".env").write_text(f"{name}={secret}\n")
    assert unknown_settings({}, tmp_path / ".env") == [found]


@pytest.mark.parametrize(
    "name",
    [
        "PORT", "PORTS", "PATH", "HOME", "LOGNAME", "http_proxy", "no_proxy", "PGPASSWORD", "POSTGRES_PASSWORD",
        "REDIS_PORT",
        "READER_PASSWORD", "GRAFANA_PASSWORD", "KEY_GROUP", "FORCE_WHEELS", "DATABASE", "WEB_PORT_8000_TCP", "LOGS",
        "HEADSHOTPRO_API_KEY", "REDIS_URL_FILE", "",
    ],
)  # fmt: skip
def test_variable_of_another_program_is_passed_over(tmp_path: Path, name: str) -> None:
    assert unknown_settings({name: "x"}, tmp_path / ".env") == []
