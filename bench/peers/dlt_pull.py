"""A pull by dlt's `rest_api` source into Postgres: as its documentation begins, or with all that it says of speed.

Run by `bench.pulls` with the Python of .bench, in turns like its other sides (`bench.alternating`): what is timed
is `pipeline.run`, imports left out. State and working files stay in a folder between the first run and the next.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 200
TIMES = ("createdAt", "finishedAt")
# https://dlthub.com/docs/reference/performance: workers for each stage, and files small enough to share out among them.
FAST_SETTINGS = {
    "EXTRACT__WORKERS": "4",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
}


def client(url: str, key: str) -> dict[str, Any]:
    """How the vendor is spoken to."""
    return {"base_url": f"{url}/", "auth": {"type": "bearer", "token": key}}


def stock(url: str, key: str, disposition: str) -> Any:
    """The `rest_api` source as its documentation shows it."""
    from dlt.sources.rest_api import rest_api_source

    paginator = {"type": "offset", "limit": PAGE, "total_path": "pagination.total"}
    endpoint = {"path": "organization/models", "data_selector": "models", "paginator": paginator}
    models = {"name": "models", "primary_key": "id", "write_disposition": disposition, "endpoint": endpoint}
    return rest_api_source({"client": client(url, key), "resources": [models]})


def fast(url: str, key: str, disposition: str, *, threads: bool) -> Any:
    """The same source, its pages turned into Arrow tables, and fetched by threads if so wished."""
    import dlt
    import pyarrow as pa
    from dlt.sources.rest_api import rest_api_source

    def table(page: list[dict[str, Any]]) -> Any:
        found = pa.Table.from_pylist(page)
        for name in TIMES:
            place = found.schema.get_field_index(name)
            found = found.set_column(place, name, found.column(name).cast(pa.timestamp("us", "UTC")))
        return found

    @dlt.transformer(name="models", primary_key="id", write_disposition=disposition)
    def arrow(page: list[dict[str, Any]]) -> Iterator[Any]:
        yield table(page)

    if not threads:
        return stock(url, key, disposition).models.with_name("pages") | arrow

    @dlt.resource(name="offsets")
    def offsets() -> Iterator[list[dict[str, int]]]:
        from dlt.sources.helpers import requests

        told = requests.get(f"{url}/organization/models?limit=1", headers={"Authorization": f"Bearer {key}"}).json()
        yield [{"offset": offset} for offset in range(0, told["pagination"]["total"], PAGE)]

    endpoint = {
        "path": "organization/models",
        "params": {"limit": PAGE, "offset": "{resources.offsets.offset}"},
        "data_selector": "models",
        "paginator": "single_page",
    }
    pages = {"name": "pages", "endpoint": endpoint, "parallelized": True}
    source = rest_api_source({"client": client(url, key), "resources": [pages, offsets]})
    return source.pages | arrow


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--way", choices=["stock", "fast", "threads"], default="stock")
    parser.add_argument("--format", choices=["csv", "parquet"])
    parser.add_argument("--disposition", choices=["merge", "replace"], default="merge")
    given = parser.parse_args()
    os.environ["DLT_DATA_DIR"] = given.folder
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
    if given.way != "stock":
        os.environ |= FAST_SETTINGS
    import dlt

    name = f"{given.way}_{given.format or 'stock'}_{given.disposition}"
    pipeline = dlt.pipeline(
        name, destination=dlt.destinations.postgres(given.database), dataset_name=name, pipelines_dir=given.folder
    )
    if given.way == "stock":
        source = stock(given.url, given.key, given.disposition)
    else:
        source = fast(given.url, given.key, given.disposition, threads=given.way == "threads")
    print("ready", flush=True)
    sys.stdin.readline()
    before = time.perf_counter()
    pipeline.run(source, loader_file_format=given.format).raise_on_failed_jobs()
    seconds = time.perf_counter() - before
    rows = pipeline.last_trace.last_normalize_info.row_counts.get("models", 0)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "models": rows, "peak_mb": peak / 1024}), flush=True)


if __name__ == "__main__":
    main()
