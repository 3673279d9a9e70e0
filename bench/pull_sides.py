"""The sides of the bench of pulls that are ours, each in a process of its own (see `bench.alternating`).

`fetch`: the pages fetched by our client and decoded, nothing else: no pull can be quicker. `copy`: those rows into a
bare table by COPY as well. `pull`: a full pull as a worker or `headshot-mirror pull` does it.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import TYPE_CHECKING, Any

import psycopg
from msgspec.structs import astuple

from bench.alternating import measured
from service import log
from service.config import Settings
from service.mirror.pull import advance
from service.mirror.pull_slice import FULL
from service.mirror.walk import PAGE_SIZE
from service.runtime import Runtime
from service.storage import pulls
from service.storage.database import transaction
from service.upstream.budget import Priority
from service.upstream.client import UpstreamClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.upstream.payloads import ListedModel

LONGEST_SECONDS = 3600.0
SESSIONS_END_SECONDS = 0.3
TABLE = """
    create unlogged table if not exists bench_copy (
        id text, uid text, email text, title text, status text, team_id text, team_name text, is_development boolean,
        created_at timestamptz, finished_at timestamptz
    )
"""


def pages(given: argparse.Namespace) -> Iterator[tuple[ListedModel, ...]]:
    """Every page, without an overlap and without a budget."""
    with UpstreamClient(given.url, given.key, None) as client:
        offset, more = 0, True
        while more:
            page = client.list_models(limit=PAGE_SIZE, offset=offset, priority=Priority.FULL).body
            offset, more = offset + PAGE_SIZE, page.pagination.has_more
            yield page.models


def fetch(given: argparse.Namespace) -> dict[str, Any]:
    """Fetch and decode."""
    return {"models": sum(len(models) for models in pages(given))}


def copy(given: argparse.Namespace) -> dict[str, Any]:
    """Fetch, decode, COPY in one transaction."""
    models = 0
    with psycopg.connect(given.database) as connection:
        connection.execute(TABLE)
        with connection.cursor() as cursor, cursor.copy("copy bench_copy from stdin") as into:
            for page in pages(given):
                for model in page:
                    into.write_row(astuple(model))
                models += len(page)
    return {"models": models}


def pull(given: argparse.Namespace) -> dict[str, Any]:
    """A full pull to its end."""
    settings = Settings(
        database_url=given.database,
        redis_url=given.redis,
        headshotpro_api_url=given.url,
        headshotpro_api_key=given.key,
        log_level="warning",
    )
    log.configure(settings)
    runtime = Runtime.build(settings)
    pull_id = advance(runtime.pull_context(), FULL, 0, LONGEST_SECONDS)
    assert pull_id is not None
    with transaction(runtime.engine) as connection:
        row = pulls.one(connection, pull_id)
    runtime.engine.dispose()
    assert row is not None
    assert row["status"] == "complete", row["error"]
    return {"models": row["models_seen"], "requests": row["requests"], "pages": row["pages"]}


def main() -> None:
    """Be one side, once."""
    sides = {"fetch": fetch, "copy": copy, "pull": pull}
    parser = argparse.ArgumentParser(prog="python -m bench.pull_sides", description=__doc__)
    parser.add_argument("side", choices=sides)
    parser.add_argument("--url", required=True, help="of the vendor")
    parser.add_argument("--key", required=True)
    parser.add_argument("--database")
    parser.add_argument("--redis")
    given = parser.parse_args()
    with measured() as result:
        began = time.perf_counter()
        result.update(sides[given.side](given))
        result["seconds"] = time.perf_counter() - began
        # Postgres counts what a session did when that has ended.
        time.sleep(SESSIONS_END_SECONDS)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
