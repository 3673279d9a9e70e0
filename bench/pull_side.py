"""A full pull as a worker does it: `python -m bench.pull_side URL KEY DATABASE REDIS SHARE`.

Its time leaves out the imports and what a worker makes once, such as the TLS context, as that of dlt leaves out how its
pipeline is made.
"""

import gc
import json
import resource
import sys
import time

from service import log
from service.config import Settings
from service.mirror.pull import advance
from service.mirror.pull_slice import FULL
from service.runtime import Runtime
from service.storage import pulls
from service.storage.database import transaction
from workers.rq_worker import GC_THRESHOLD

LONGEST_SECONDS = 3600.0


def main(url: str, key: str, database: str, redis: str, share: str) -> None:
    servers = {"database_url": database, "redis_url": redis, "headshotpro_api_url": url, "headshotpro_api_key": key}
    settings = Settings(**servers, rate_budget=float(share), log_level="warning")
    log.configure(settings)
    runtime = Runtime.build(settings)
    pull_context = runtime.pull_context()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    began, cpu = time.perf_counter(), time.process_time()
    pull_id = advance(pull_context, FULL, 0, LONGEST_SECONDS)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert pull_id is not None
    with transaction(runtime.engine) as connection:
        row = pulls.one(connection, pull_id)
    runtime.engine.dispose()
    # Postgres counts the rows of a session when that has ended.
    time.sleep(0.3)
    assert row is not None
    assert row["status"] == "complete", row["error"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = {"models": row["models_seen"], "requests": row["requests"]}
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak, **counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
