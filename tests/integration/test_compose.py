"""deploy/compose.yaml and what it reads: by the schema of compose files, and by what our processes make of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
import yaml

from service import __version__, config
from service.local.servers.binaries import find_valkey
from service.parent_death import die_with_parent
from service.storage.migrations.schema import migrate
from tests.support.documents import DEPLOY
from tests.support.ports import free_port
from tests.support.processes import eventually
from tests.support.tools import checked

if TYPE_CHECKING:
    from pathlib import Path

    from service.local.servers import Postgres

FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {"release": "migrate", "web": "web", "worker": "worker", "clock": "clock"}
VENDORS = {"HEADSHOTPRO_API_KEY": "hsp_key", "HEADSHOTPRO_WEBHOOK_SECRET": "5e" * 32}


def test_it_is_a_compose_file() -> None:
    assert "ok" in checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)


def test_each_service_runs_after_migration_with_time_to_stop() -> None:
    for name, command in OURS.items():
        service = SERVICES[name]
        # The image's own command is web's.
        assert service.get("command", ["headshot-mirror", "web"]) == ["headshot-mirror", command]
        assert service["image"] == f"headshot-mirror:{__version__}"
        assert int(service["stop_grace_period"].removesuffix("s")) > 10
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        waits_for = (
            {"postgres": "service_healthy"} if name == "release" else {"release": "service_completed_successfully"}
        )
        assert {other: how["condition"] for other, how in service["depends_on"].items()} == waits_for
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_compose_publishes_to_localhost_and_isolates_servers() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:3000:3000", "127.0.0.1:8000:8000", "127.0.0.1:9090:9090"]
    internal = {name for name, network in COMPOSE["networks"].items() if (network or {}).get("internal")}
    assert {tuple(SERVICES[server]["networks"]) for server in ("postgres", "redis")} <= {(name,) for name in internal}


def test_redis_keeps_what_it_took() -> None:
    service = SERVICES["redis"]
    (mounted,) = service["configs"]
    assert service["command"] == ["redis-server", mounted["target"]]
    options = dict(line.split() for line in redis_settings({"REDIS_PASSWORD": "x"}).splitlines())
    assert options.items() >= {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}.items()


def test_every_image_is_of_one_version() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert {image for image in images if not re.search(r":v?\d+\.\d+\.?\d*(-\w+)?$", image)} == set()


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = {path for path in mounts if path.startswith("./")} - {"./prometheus/headshot-mirror.key"}
    assert {path for path in files if not (DEPLOY / path).exists()} == set()
    assert {path for path in mounts if not path.startswith("./")} == COMPOSE["volumes"].keys()


@pytest.fixture
def made(folder: Path) -> Path:
    """A copy of deploy/ in which deploy/secrets.sh has run."""
    copy = folder / "deploy"
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns(".env", "*.key"))
    checked(copy / "secrets.sh")
    return copy


def values_of(made: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in (made / ".env").read_text().splitlines() if line and line[0] != "#")
    return {name: value for name, _, value in lines}


def filled_in(text: str, values: dict[str, str]) -> str:
    """As Compose does: `${NAME:?words}` must have a value."""
    return re.sub(r"\$\{(\w+):\?[^}]+\}", lambda found: values[found[1]], text)


def test_secrets_sh_makes_what_it_asks_for_once(made: Path) -> None:
    values = values_of(made)
    asked = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert {name for name, value in values.items() if not value} == VENDORS.keys()
    assert values.keys() == asked
    passwords = [value for name, value in values.items() if name.endswith("PASSWORD")]
    assert len({*passwords}) == 4
    assert min(map(len, passwords)) == 48
    key = made / "prometheus/headshot-mirror.key"
    assert values["MIRROR_API_KEYS"] == "prometheus=metrics:" + key.read_text()
    assert oct(key.stat().st_mode)[-3:] == "640"
    # Prometheus' own user reads it by the group.
    assert values["KEY_GROUP"] == str(key.stat().st_gid)
    assert SERVICES["prometheus"]["group_add"] == ["${KEY_GROUP:?run deploy/secrets.sh first}"]
    assert oct((made / ".env").stat().st_mode)[-3:] == "600"
    before = (made / ".env").read_text()
    assert checked(made / "secrets.sh") == ""
    assert (made / ".env").read_text() == before
    # An older installation has a key that every user may read, and no group.
    (made / ".env").write_text(before.replace("KEY_GROUP", "#KEY_GROUP"))
    key.chmod(0o644)
    checked(made / "secrets.sh")
    assert oct(key.stat().st_mode)[-3:] == "640"
    assert values_of(made)["KEY_GROUP"] == str(key.stat().st_gid)


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("-h", 0), ("--force", 2)])
def test_secrets_sh_with_an_argument_prints_its_usage_only(folder: Path, argument: str, status: int) -> None:
    copy = folder / "deploy"
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns(".env", "*.key"))
    done = subprocess.run([copy / "secrets.sh", argument], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert (done.stdout if status == 0 else done.stderr).startswith("Usage: deploy/secrets.sh")
    assert [made for made in (".env", "prometheus/headshot-mirror.key") if (copy / made).exists()] == []


def test_secrets_sh_adds_what_an_older_env_lacks(made: Path) -> None:
    names = ("REDIS_PASSWORD", "KEY_GROUP")
    lines = [line for line in (made / ".env").read_text().splitlines() if not line.startswith(names)]
    (made / ".env").write_text("\n".join(lines) + "\n")
    added = checked(made / "secrets.sh")
    assert [name for name in names if f"added {name}" not in added] == []
    assert len(values_of(made)["REDIS_PASSWORD"]) == 48
    assert checked(made / "secrets.sh") == ""


def redis_settings(values: dict[str, str]) -> str:
    return filled_in(COMPOSE["configs"]["redis"]["content"], values)


def test_redis_takes_nobody_without_its_password(made: Path, folder: Path) -> None:
    password = values_of(made)["REDIS_PASSWORD"]
    port = free_port()
    (folder / "redis.conf").write_text(
        f"{redis_settings(values_of(made))}\nport {port}\nbind 127.0.0.1\ndir {folder}\n"
    )
    program = find_valkey(force_wheels=True).program
    server = subprocess.Popen(die_with_parent([program, folder / "redis.conf"], SIGTERM), stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, password=password) as ours, redis.Redis(port=port) as stranger:
            assert eventually(partial(answers, ours))
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
    finally:
        server.terminate()
        server.wait()
    # The health check has it too, and no command line has.
    assert filled_in(SERVICES["redis"]["environment"]["REDISCLI_AUTH"], values_of(made)) == password
    assert "REDIS_PASSWORD" not in str([service.get("command") for service in SERVICES.values()])


def answers(client: redis.Redis) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def test_our_processes_understand_every_setting(made: Path) -> None:
    values = values_of(made) | VENDORS
    for name in OURS:
        environment = {name: filled_in(value, values) for name, value in SERVICES[name]["environment"].items()}
        settings = config.load(environment, environment, made / "none")
        assert f":{values['POSTGRES_PASSWORD']}@postgres:" in settings.postgres_url
        assert f":{values['REDIS_PASSWORD']}@redis:" in settings.redis
        # A misspelt one would be passed over without a word.
        assert environment.keys() <= {field.upper() for field in config.Settings.__struct_fields__}


def test_grafanas_login_reads_the_mirror_and_nothing_else(made: Path, own_postgres: Postgres) -> None:
    # The programs of a server lie together; the image has psql on its PATH too.
    programs = own_postgres.binary.program.parent
    url = own_postgres.url_of("postgres")
    with psycopg.connect(url) as owner:
        about = owner.info
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "PGHOST": about.host,
            "PGPORT": str(about.port),
            "PGPASSWORD": about.password,
            "POSTGRES_USER": about.user,
            "POSTGRES_DB": about.dbname,
            "READER_PASSWORD": values_of(made)["READER_PASSWORD"],
        }
    checked("sh", made / "postgres/reader.sh", env=environment)
    migrate(url)
    with psycopg.connect(url, user="grafana", password=environment["READER_PASSWORD"]) as grafana:
        assert grafana.execute("select count(*) from headshotpro.live_models").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            grafana.execute("select payload from headshotpro.webhook_events")
