"""Pages of the API beside the sandbox's: `python -m bench.api`; `bench.floods` has deliveries beside them."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import click
import urllib3

from bench.report import Report, Times, times
from bench.setup import pull, sandbox, servers, value

KEY = "key-of-the-bench"
PAGE = 200


def client(base: str, key: str) -> Callable[..., Times]:
    """Reads pages at these offsets on one kept connection."""
    pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=30, headers={"Authorization": f"Bearer {key}"})

    def read(offsets: Sequence[int], query: str = "") -> Times:
        taken = []
        for offset in offsets:
            began = time.perf_counter()
            assert pool.request("GET", f"{base}/organization/models?limit={PAGE}&offset={offset}{query}").status == 200
            taken.append(time.perf_counter() - began)
        return times(taken)

    return read


@click.command()
@click.option("--models", default=100_000)
def main(models: int) -> None:
    report = Report("API", "python -m bench.api")
    with servers() as place, sandbox(models) as upstream, ExitStack() as stack:
        pull(place, upstream)
        value(place.postgres.url, "vacuum analyze")
        system = place.started(stack, "web", MIRROR_API_KEYS=KEY, LOG_LEVEL="error")
        base = f"{system.url}/api/v2"
        ours, theirs = client(base, KEY), client(upstream.url, upstream.api_key)
        walk = range(0, models, PAGE)
        asked = {f"offset {offset}": [offset] * 60 for offset in (0, models // 2, models - PAGE)}
        lines = [[name, ours(one), theirs(one)] for name, one in {**asked, "all pages": walk}.items()]
        lines += [[query, ours([0] * 60, query), "–"] for query in ("&status=active", "&updatedSince=0")]
        report.table(f"A page of {PAGE} of {models:,} models:", ["", "mirror", "sandbox"], lines)
    print(report)


if __name__ == "__main__":
    main()
