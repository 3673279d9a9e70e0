"""Two people who do the same at once: one of them acts, and the other sees who does it, since when."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from service.api.writes import UpstreamWriter
from service.errors import ApiError
from service.storage import audit
from service.storage.database import transaction
from service.upstream.client import UpstreamClient
from tests.support.acting import TESTER
from tests.support.api import Api
from tests.support.cli import Cli
from tests.support.operator import Operator, path_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mirror import Mirror

ANN = audit.Actor("ann", audit.API, "192.0.2.7")
ACTS = "select actor, outcome from headshotpro.audit_log order by id"


def deletes_sent(mirror: Mirror) -> int:
    counted = mirror.vendor.control("GET", "/requests")["requests"]
    return sum(row["count"] for row in counted if row["method"] == "DELETE")


def begin_delete(mirror: Mirror, model: str) -> None:
    """Ann has begun to delete a model, and her request is not over."""
    with transaction(mirror.runtime.engine) as connection:
        audit.record(connection, audit.Act(ANN, "model.delete", model), audit.BEGUN)


def test_delete_that_is_in_flight_elsewhere_is_not_sent_again(mirrored: Mirror, folder: Path) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    form = {"csrf_token": operator.csrf()}
    begin_delete(mirrored, model)
    by_console = operator.browser.post(path_of("delete", model), data=form)
    by_api = Api.of(mirrored).call("DELETE", f"/{model}")
    by_command = Cli(folder, **mirrored.variables).run("models", "delete", model, "--yes")
    assert (by_console.status_code, by_api.status_code, by_command.status) == (409, 409, 1)
    assert (by_api.json["code"], by_api.headers["Retry-After"]) == ("CONFLICT", "1")
    for text in (by_console.text, by_api.json["error"], by_command.err):
        assert f"{model} is being deleted by ann (api) since " in text
    assert (deletes_sent(mirrored), mirrored.sql(ACTS)) == (0, [{"actor": "ann", "outcome": "begun"}])
    assert f"{model} is being deleted by ann (api) since " in operator.page("delete", model).text


def test_delete_whose_process_died_holds_up_no_other(mirrored: Mirror) -> None:
    model = min(mirrored.live_ids())
    begin_delete(mirrored, model)
    mirrored.sql("update headshotpro.audit_log set at = at - interval '31 seconds'")
    Operator(mirrored).do("delete", model)
    assert deletes_sent(mirrored) == 1
    assert [act["outcome"] for act in mirrored.sql(ACTS)] == ["begun", "done"]


def test_one_of_two_deletes_at_once_is_sent(mirrored: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, model = mirrored.runtime, min(mirrored.live_ids())
    writer = UpstreamWriter(runtime.engine, runtime.client, runtime.queue, runtime.stale_models)
    in_flight, other_is_over = threading.Event(), threading.Event()
    delete_model = UpstreamClient.delete_model

    def send_slowly(*given: Any, **named: Any) -> Any:
        in_flight.set()
        assert other_is_over.wait(30)
        return delete_model(*given, **named)

    monkeypatch.setattr(UpstreamClient, "delete_model", send_slowly)
    first = threading.Thread(target=writer.delete, args=(model, ANN))
    first.start()
    assert in_flight.wait(30)
    with pytest.raises(ApiError, match="is being deleted by ann"):
        writer.delete(model, TESTER)
    other_is_over.set()
    first.join(30)
    assert (deletes_sent(mirrored), mirrored.sql(ACTS)) == (1, [{"actor": "ann", "outcome": "done"}])
    page = Operator(mirrored).page("delete", model).text
    assert "is deleted already" in page


def test_delete_that_begins_as_another_ends_is_not_sent(mirrored: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    form, delete = {"csrf_token": operator.csrf()}, UpstreamWriter.delete

    def delete_after_another(writer: UpstreamWriter, model_id: str, *rest: Any) -> Any:
        delete(writer, model_id, ANN)
        return delete(writer, model_id, *rest)

    monkeypatch.setattr(UpstreamWriter, "delete", delete_after_another)
    sent = operator.browser.post(path_of("delete", model), data=form)
    assert (sent.status_code, f"{model} is deleted already" in sent.text) == (409, True)
    assert (deletes_sent(mirrored), mirrored.sql(ACTS)) == (1, [{"actor": "ann", "outcome": "done"}])


def test_act_leads_to_its_own_row_though_its_person_acts_twice(
    mirrored: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, model = Operator(mirrored), min(mirrored.live_ids())
    get_model = UpstreamClient.get_model

    def act_meanwhile(*given: Any, **named: Any) -> Any:
        with transaction(mirrored.runtime.engine) as connection:
            # All who log in by the operators' password have this name.
            actor = audit.Actor("operator", audit.CONSOLE, "127.0.0.1")
            audit.record(connection, audit.Act(actor, "model.refetch", model))
        return get_model(*given, **named)

    monkeypatch.setattr(UpstreamClient, "get_model", act_meanwhile)
    own, _other = operator.do("refetch", model), mirrored.sql(ACTS)
    assert own.request.path == "/console/audit/1"
