"""Options of DATABASE_URL and REDIS_URL: a wrong value is refused before anything is connected."""

from __future__ import annotations

import pytest

from service.broker.client import connect_redis
from service.errors import SettingsError
from service.storage.database import connect

WRONG_IN_POSTGRES = [
    "sslmode=always", "sslnegotiation=soon", "channel_binding=maybe", "gssencmode=maybe", "sslcertmode=maybe",
    "target_session_attrs=any-write", "load_balance_hosts=yes", "require_auth=hunter2", "port=70000",
    "ssl_min_protocol_version=TLSv9", "service=hunter2", "keepalives=hunter2", "pgbouncer=true",
]  # fmt: skip
WRONG_IN_REDIS = [
    "decode_responses=true", "encoding=hunter2", "redis_connect_func=hunter2", "retry=hunter2", "cache_config=hunter2",
    "credential_provider=hunter2", "max_connections=0", "max_connections=hunter2", "socket_timeout=0",
    "socket_timeout=-1", "socket_timeout=nan", "socket_timeout=inf", "socket_connect_timeout=1e300",
    "socket_connect_timeout=-3", "client_name=a%20b", "client_name=a%0Ab", "client_name=%C3%BC",
    "protocol=5", "hunter2=1", "host=other",
]  # fmt: skip


@pytest.mark.parametrize("option", WRONG_IN_POSTGRES)
def test_wrong_option_of_database_url_is_refused_by_name(option: str) -> None:
    with pytest.raises(SettingsError, match=f"^DATABASE_URL is malformed: .*{option.partition('=')[0]}$") as found:
        connect(f"postgresql://u@h/d?{option}")
    assert "hunter2" not in str(found.value)


def test_options_of_database_url_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL is malformed: Postgres knows no such value"):
        connect("postgresql://u@h/d?sslmode=disable&sslnegotiation=direct")


def test_wrong_variable_of_libpq_is_not_laid_to_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "hunter2")
    with pytest.raises(SettingsError, match=r"^a variable PG… of the environment, such as PGSSLMODE, ") as found:
        connect("postgresql://u@h/d?application_name=x")
    assert "hunter2" not in str(found.value)
    # The URL overrides it.
    connect("postgresql://u@h/d?sslmode=require").dispose()


@pytest.mark.parametrize(
    "options",
    [
        "sslmode=require",
        "sslmode=verify-full&sslrootcert=system",
        "host=/run/pg",
        "host=a,b&port=5432,5433&target_session_attrs=read-write&load_balance_hosts=random",
        "sslmode=require&sslnegotiation=direct&channel_binding=require",
        "keepalives=1&options=-c%20work_mem%3D8MB&application_name=x&connect_timeout=3",
        "gssencmode=disable&require_auth=scram-sha-256",
        "hostaddr=127.0.0.1",
    ],
)
def test_right_options_of_database_url_are_taken(options: str) -> None:
    connect(f"postgresql://u@h/d?{options}").dispose()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("option", WRONG_IN_REDIS)
def test_wrong_option_of_redis_url_is_refused(scheme: str, option: str) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL is malformed: ") as found:
        connect_redis(f"{scheme}://h:6379/0?{option}")
    assert "hunter2" not in str(found.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0?socket_timeout=3&max_connections=50&client_name=x&protocol=3&health_check_interval=30",
        "rediss://h:6380/1?ssl_cert_reqs=none&ssl_check_hostname=false",
        "redis+sentinel://u:p@h1:26379,h2/service/0?sentinel_password=x",
    ],
)
def test_right_options_of_redis_url_are_taken(url: str) -> None:
    connect_redis(url).close()
