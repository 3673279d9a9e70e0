"""Settings from files: `.env`, and a file for each secret; which of them wins, and how an unreadable one is named."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from service import config
from service.config import SECRETS, is_any_given, load
from service.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file_without_its_last_line_end(tmp_path: Path, name: str, ending: str) -> None:
    proxies = {"HTTPS_PROXY": "http://u:p@proxy:3128", "HTTP_PROXY": "proxy:3128", "HEADSHOTPRO_API_KEY": "a b"}
    urls = {
        "DATABASE_URL": "postgresql://h/d",
        "REDIS_URL": "redis://h",
        "ALERT_URLS": "json://h, json://i ",
        "HEARTBEAT_URL": "https://h/secret",
        **proxies,
    }
    value = urls.get(name, "a b ")
    (tmp_path / "secret").write_bytes((value + ending).encode())
    settings = load((name,), {f"{name}_FILE": str(tmp_path / "secret")}, tmp_path / ".env")
    assert settings.require(name) == value


def test_byte_order_mark_is_no_part_of_a_secret_or_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPORT=9001\r\n")
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    settings = load((), {"HEADSHOTPRO_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")}, tmp_path / ".env")
    assert (settings.port, settings.webhook_secrets) == (9001, ("hunter2",))


def test_an_empty_file_is_a_missing_setting(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(SettingsError, match=r"^REDIS_URL is missing"):
        load(("REDIS_URL",), {"REDIS_URL_FILE": str(tmp_path / "secret")}, tmp_path / ".env")


def test_a_setting_together_with_its_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("redis://hunter2")
    given = {"REDIS_URL": "redis://hunter2", "REDIS_URL_FILE": str(tmp_path / "secret")}
    with pytest.raises(SettingsError, match="REDIS_URL and REDIS_URL_FILE are both set") as caught:
        load(environ=given, dotenv=tmp_path / ".env")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^HEADSHOTPRO_API_KEY_FILE cannot be read"):
        load(environ={"HEADSHOTPRO_API_KEY_FILE": str(tmp_path / "secret")}, dotenv=tmp_path / ".env")


def test_a_device_without_end_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^HEADSHOTPRO_API_KEY_FILE cannot be read: over 100,000 characters"):
        load(environ={"HEADSHOTPRO_API_KEY_FILE": "/dev/zero"}, dotenv=tmp_path / ".env")


def test_the_environment_wins_over_the_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1000\nWEB_CONCURRENCY=7\nLOG_LEVEL=\n")
    settings = load(environ={"PORT": "2000"}, dotenv=tmp_path / ".env")
    assert (settings.port, settings.web_concurrency, settings.log_level) == (2000, 7, "info")


def test_environment_secret_overrides_file_named_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("redis://file")
    (tmp_path / ".env").write_text(f"REDIS_URL_FILE={tmp_path / 'secret'}\nHEADSHOTPRO_API_KEY=plain\n")
    given = {"REDIS_URL": "redis://environment", "HEADSHOTPRO_API_KEY_FILE": str(tmp_path / "secret")}
    settings = load(environ=given, dotenv=tmp_path / ".env")
    assert settings.redis == "redis://environment"
    assert settings.api_key == "redis://file"


def test_both_forms_in_the_dotenv_file_are_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"REDIS_URL=redis://h\nREDIS_URL_FILE={tmp_path / 'secret'}\n")
    with pytest.raises(SettingsError, match="both set"):
        load(environ={}, dotenv=tmp_path / ".env")


@pytest.mark.parametrize("content", ["PUBLIC_URL=http://b\u00fccher/\n".encode("latin-1"), "PORT=1\n".encode("utf-16")])
def test_dotenv_that_is_not_utf_8_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(content)
    for read in (lambda: load(environ={}, dotenv=dotenv), lambda: is_any_given(("PORT",))):
        with pytest.raises(SettingsError, match=r"\.env is malformed: it is not UTF-8 text"):
            read()
    with pytest.raises(SettingsError, match="is not UTF-8"):
        config.unknown_settings({}, dotenv)


def test_settings_are_given_by_environment_file_or_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("DATABASE_URL", "REDIS_URL")
    monkeypatch.setattr(os, "environ", {"PORT": "1", "REDIS_URL": ""})
    assert not is_any_given(names)
    monkeypatch.setattr(os, "environ", {"REDIS_URL_FILE": "/here"})
    assert is_any_given(names)
    monkeypatch.setattr(os, "environ", {})
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://here/db\n")
    assert is_any_given(names)
