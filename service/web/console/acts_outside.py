"""Acts that reach the upstream, the receivers or a worker: each is recorded before, and completed after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import url_for
from werkzeug.exceptions import NotFound

from service.alerts import trial
from service.api.writes import UPSTREAM_DEADLINE_SECONDS
from service.broker.jobs import Job
from service.errors import MirrorError
from service.mirror import ask_now
from service.mirror.pull_slice import FULL, HOT, START_ACTION
from service.mirror.walk import pages_of
from service.model_fields import DELETED
from service.storage import alerts, audit, pulls
from service.storage.api_queries import ModelFilter, total
from service.web.console.act_page import ActPage, Deed, Facts, cost, to
from service.web.console.model import find
from service.web.console.presentation import number, page_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from service.web.console.console import Console

PULL_JOBS = {FULL: Job.PULL_FULL_NOW, HOT: Job.PULL_HOT_NOW}


def _model(console: Console, model_id: str) -> Mapping[str, Any]:
    with console.reading() as connection:
        return find(connection, model_id)


def _model_facts(console: Console, model_id: str) -> Facts:
    row = _model(console, model_id)
    about = ("Name", console.names.person(row["title"])), ("Status in the mirror", row["status"] or "unknown")
    return {"facts": (*about, *cost(console, 1))}


def _refetch(console: Console, deed: Deed) -> int:
    return ask_now.ask_now(console.engine, console.upstream.client, deed.target, deed.actor, UPSTREAM_DEADLINE_SECONDS)


def _delete_facts(console: Console, model_id: str) -> Facts:
    refusal = f"{model_id} is deleted already." if _model(console, model_id)["status"] == DELETED else ""
    with console.reading() as connection:
        other = audit.in_flight(connection, "model.delete", model_id, "deleted")
    return {**_model_facts(console, model_id), "refusal": refusal or (f"{other}: wait for its end." if other else "")}


def _delete(console: Console, deed: Deed) -> int:
    def check(connection: Connection) -> None:
        if find(connection, deed.target)["status"] == DELETED:
            raise MirrorError(f"{deed.target} is deleted already")

    # A model that does not exist is a 404, also in a process without an API key.
    _model(console, deed.target)
    return console.upstream.delete(deed.target, deed.actor, check).act_row_id


def _test_facts(console: Console, _target: str) -> Facts:
    with console.reading() as connection:
        known = [one for one in alerts.list_receivers(connection) if one["is_configured"]]
    return {"facts": (("Receivers that were notified before", number(len(known))),)}


def _test(console: Console, deed: Deed) -> int:
    if not console.settings.alert_urls:
        raise MirrorError("there is no receiver: ALERT_URLS is not set for web")
    with audit.recorded(console.engine, audit.Act(deed.actor, trial.ACTION)) as act:
        trial.describe(act, trial.send_from_process(console.settings))
    return act.row_id


def _pull_facts(console: Console, kind: str) -> Facts:
    if kind not in PULL_JOBS:
        raise NotFound(f"There is no pull of the kind {kind!r}.")
    with console.reading() as connection:
        running = pulls.newest(connection, kind, "running")
        last = pulls.newest(connection, kind, "complete")
        live = total(connection, ModelFilter()) if last is None else 0
    # Before the first pull the mirror knows few models, or none.
    requests = last["requests"] if last else pages_of(live)
    known = "as the last one did" if last else "as far as the mirror knows the number of models"
    return {
        "facts": (*cost(console, max(1, requests)), ("Estimated", known)),
        "refusal": running and f"Pull {running['id']} of this kind runs already: wait for its end.",
    }


def _pull(console: Console, deed: Deed) -> int:
    kind = deed.target
    facts = _pull_facts(console, kind)
    if facts["refusal"]:
        raise MirrorError(f"a {kind} pull runs already")
    with audit.recorded(console.engine, audit.Act(deed.actor, START_ACTION, kind)) as act:
        if not console.queue.enqueue(PULL_JOBS[kind]):
            act.detail["error"], act.outcome = "a pull waits already for a worker", audit.FAILED
    return act.row_id


ACTS = {
    "refetch": ActPage(
        "Ask the vendor now",
        "One request of the API is spent at once. The response is merged, and the next page shows each field that "
        "differed.",
        _refetch, lambda target: page_url("models", target), _model_facts, waits=True,
    ),
    "delete": ActPage(
        "Delete the model",
        "The vendor deletes the model with its photos. This cannot be undone, not even by the vendor. The mirror keeps "
        "a tombstone.",
        _delete, lambda target: page_url("models", target), _delete_facts, danger=True, waits=True,
    ),
    "test": ActPage(
        "Send a test notification",
        "A message with alerts that are made up goes to each receiver of ALERT_URLS, now. It says that it is a test.",
        _test, to("console.alerts"), _test_facts, named="All {}", waits=True,
    ),
    "pull": ActPage(
        "Pull now",
        "A worker begins a pull within seconds. Webhooks are applied meanwhile, and the request budget holds for it as "
        "for any other.",
        _pull, lambda _target: url_for("console.pulls"), _pull_facts, named="A {} pull",
    ),
}  # fmt: skip
