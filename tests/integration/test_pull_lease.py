"""One pull of a kind at a time, whoever dies: leases and checkpoints, with real processes where they are killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import LeaseLost, Stopping
from service.mirror.pull_slice import FULL
from service.storage import pull_checkpoints
from service.storage.database import transaction
from tests.support.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from service.runtime import Runtime
    from tests.support.mirror import Mirror, StartMirror


def the_pull(here: Mirror) -> dict[str, Any]:
    """The only pull there is."""
    (row,) = here.sql("select * from headshotpro.pulls")
    return row


@pytest.mark.long
def test_killed_pull_is_resumed_from_its_page_within_20_s(mirror: StartMirror, folder: Path) -> None:
    here = mirror(models=1_300, slow=0.6)
    killed = here.start(folder, "-m", "service.cli", "pull")
    assert eventually(lambda: the_pull_has(here, pages=2))
    killed.kill()
    killed.wait()
    before = monotonic()
    done = the_pull(here)
    assert done["status"] == "running"
    # Its lease has to expire first.
    assert here.slice() is None
    here.set_switches(slow=0)
    assert eventually(here.slice)
    assert monotonic() - before < 20
    pull = here.pull() if the_pull(here)["status"] == "running" else the_pull(here)
    assert (pull["id"], pull["status"], pull["pages"]) == (done["id"], "complete", 7)
    assert pull["requests"] == 8
    # Nothing is read twice but the page that was in the dead process's hand.
    assert here.request_counts().total() <= 8
    assert here.differences() == []


def the_pull_has(here: Mirror, pages: int) -> bool:
    return bool(here.sql("select id from headshotpro.pulls where pages >= %s", pages))


def test_a_pull_that_stood_still_too_long_begins_again(mirror: StartMirror) -> None:
    here = mirror(models=450)
    here.read_pages(2)
    idle = pull_checkpoints.RESUMABLE_SECONDS + 1
    here.sql("update headshotpro.pull_checkpoints set leased_until = now() - make_interval(secs => %s)", idle)
    pull = here.pull()
    assert (pull["status"], pull["pages"]) == ("complete", 3)
    (old,) = here.sql("select * from headshotpro.pulls where id <> %s", pull["id"])
    assert old["pages"] == 2
    assert (old["status"], old["error"]) == ("failed", "interrupted, and not taken up again in time")
    assert old["finished_at"] is not None


def test_of_two_processes_that_pull_at_once_one_works(mirror: StartMirror) -> None:
    here = mirror(models=450, slow=0.1)
    runtimes = [here.another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        worked = list(pool.map(lambda runtime: here.slice(runtime=runtime, interval=900), runtimes))
    pull = the_pull(here)
    assert (pull["status"], pull["pages"]) == ("complete", 3)
    assert sorted(worked, key=str) == [pull["id"], None, None, None]
    assert here.request_counts() == {200: 3}


def test_full_and_hot_pulls_run_beside_each_other(mirror: StartMirror) -> None:
    here = mirror(models=300)
    seen: list[int | None] = []

    def hot() -> None:
        seen.append(here.slice("hot", runtime=here.another()))

    assert here.pull(between=hot)["status"] == "complete"
    assert len({*seen}) == len(seen) == 2
    assert {row["status"] for row in here.sql("select status from headshotpro.pulls")} == {"complete"}


def test_process_that_loses_its_lease_mid_page_cannot_commit(mirror: StartMirror) -> None:
    here = mirror(models=300, slow=1)
    failures: list[BaseException] = []

    def first() -> None:
        try:
            here.slice()
        except LeaseLost as error:
            failures.append(error)

    slow = threading.Thread(target=first)
    slow.start()
    # It holds the lease, and waits for its first page.
    assert eventually(lambda: here.sql("select uid from headshotpro.organization"))
    other = here.another()
    take_over(here, other)
    slow.join(30)
    assert len(failures) == 1
    assert the_pull(here)["pages"] == 0
    assert here.versions() == [{"count": 0}]

    here.set_switches(slow=0)
    here.expire_leases()
    assert here.slice(runtime=other) == the_pull(here)["id"]
    assert the_pull(here)["status"] == "complete"
    assert here.differences() == []


def take_over(here: Mirror, runtime: Runtime) -> None:
    """Let another process take over the running pull."""
    here.expire_leases()
    with transaction(runtime.engine) as connection:
        assert pull_checkpoints.claim(connection, FULL, runtime.name, 0)


def test_pull_of_a_stopping_process_is_resumed_by_another(mirror: StartMirror) -> None:
    here = mirror(models=450, errors=1)
    stopping = here.another()
    threading.Timer(0.2, stopping.stop.set).start()
    with pytest.raises(Stopping):
        here.slice(runtime=stopping)
    here.set_switches(errors=0)
    here.expire_leases()
    assert here.pull()["id"] == the_pull(here)["id"]


def test_paused_pull_continues_at_once_when_a_person_starts_it(mirror: StartMirror) -> None:
    here = mirror(models=450, errors=1)
    assert here.slice() is not None
    here.set_switches(errors=0)
    # The workers wait for five seconds; a person who types `pull` does not.
    assert here.slice() is None
    assert here.slice(wake=True) == the_pull(here)["id"]
    assert the_pull(here)["status"] == "complete"


def test_nobody_wakes_a_pull_that_is_worked_on(mirror: StartMirror) -> None:
    here = mirror(models=450)
    other = here.another()
    with transaction(other.engine) as connection:
        assert pull_checkpoints.claim(connection, FULL, other.name, 0)
    assert here.slice(wake=True) is None
