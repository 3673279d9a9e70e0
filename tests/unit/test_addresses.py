"""URLs that name several servers, read as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.addresses import hosts_in_query, parse_sentinel_url
from service.config import load
from service.errors import SettingsError

NOWHERE = Path("/nonexistent/.env")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("postgresql://u:p@h1:5432,h2:5433/d", "postgresql://u:p@/d?host=h1,h2&port=5432,5433"),
        ("postgresql://h1,h2/d?sslmode=require", "postgresql:///d?sslmode=require&host=h1,h2"),
        ("postgresql://u@[::1]:1,[::2]/d", "postgresql://u@/d?host=::1,::2&port=1,"),
        ("postgresql://u:p@h1,h2", "postgresql://u:p@/?host=h1,h2"),
        # One server is left as it is, whatever its password holds.
        ("postgresql://u:a,b@h/d", "postgresql://u:a,b@h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("no url", "no url"),
    ],
)
def test_hosts_of_postgres_go_into_the_query(written: str, read: str) -> None:
    assert hosts_in_query(written) == read


def test_sentinels_and_what_they_are_asked_for() -> None:
    found = parse_sentinel_url(
        "redis+sentinel://me:pw@a:26379,b,c:1/mirror/3?sentinel_password=x%26y&socket_keepalive=yes"
    )
    assert found is not None
    assert found.addresses == [("a", 26379), ("b", 26379), ("c", 1)]
    assert (found.service, found.options) == ("mirror", {"password": "x&y"})
    assert found.url == "redis://me:pw@sentinel/3?socket_keepalive=yes"


def test_sentinels_behind_tls_and_without_a_number() -> None:
    found = parse_sentinel_url("rediss+sentinel://a/mirror?ssl_cert_reqs=none")
    assert found is not None
    assert found.url == "rediss://sentinel/0?ssl_cert_reqs=none"


def test_one_redis_has_no_sentinels() -> None:
    assert parse_sentinel_url("redis://:p,w@h:6379/0") is None


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis+sentinel://:hunter2@a:1"),
        ("REDIS_URL", "redis+sentinel://:hunter2@a:b/mirror"),
        ("REDIS_URL", "redis+sentinel://:hunter2@,a/mirror"),
        ("REDIS_URL", "http+sentinel://:hunter2@a/mirror"),
        ("DATABASE_URL", "postgresql://u:hunter2@a:b,c/d"),
    ],
)
def test_what_is_malformed_is_named_and_not_told(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is malformed") as caught:
        load(environ={name: url}, dotenv=NOWHERE)
    assert "hunter2" not in str(caught.value)


def test_settings_take_several_servers() -> None:
    given = {
        "DATABASE_URL": "postgres://u:p@h1:5432,h2:5432/d?target_session_attrs=read-write",
        "REDIS_URL": "redis+sentinel://a:1,b:2/mirror",
    }
    settings = load(environ=given, dotenv=NOWHERE)
    assert settings.redis == given["REDIS_URL"]
    assert settings.postgres_url == ("postgresql://u:p@/d?target_session_attrs=read-write&host=h1,h2&port=5432,5432")
