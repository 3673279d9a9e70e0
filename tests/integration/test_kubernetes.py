"""deploy/kubernetes: what Kubernetes' own schemas and kustomize say of it, and that its parts fit together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from service import __version__, config
from tests.support.documents import DEPLOY
from tests.support.system import WEBHOOK_PATH
from tests.support.tools import checked, needs

FOLDER = DEPLOY / "kubernetes"
# Patches are no whole objects, and kustomize's own file is for kustomize alone.
OBJECTS = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem not in {"kustomization", "pod"}]
PROCESSES = {"web", "worker", "clock", "migrate"}
# The oldest version that is still supported, and the newest.
RELEASES = ("1.31", "1.37")


@pytest.mark.parametrize("release", RELEASES)
def test_every_object_is_one_of_kubernetes(release: str) -> None:
    checked("kubernetes-validate", "--strict", "--kubernetes-version", release, *OBJECTS)


def test_every_file_is_part_of_the_whole() -> None:
    whole = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(whole["resources"]) == [path.name for path in OBJECTS]
    assert [image["newTag"] for image in whole["images"]] == [__version__]


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """The documents that `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(checked("kubectl", "kustomize", FOLDER)))


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = [one for one in objects if one["kind"] in {"Deployment", "Job"}]
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found}


@needs("kubectl")
def test_every_pod_may_do_next_to_nothing(objects: list[dict[str, Any]]) -> None:
    assert pods(objects).keys() == PROCESSES
    for name, pod in pods(objects).items():
        (container,) = pod["containers"]
        assert container["args"] == ["headshot-mirror", name]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        # With nothing to write on but this, which gunicorn needs.
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 - in a container
        assert container["resources"]["limits"].keys() == {"memory"}


@needs("kubectl")
def test_only_the_process_itself_keeps_a_pod_alive(objects: list[dict[str, Any]]) -> None:
    containers = {name: pod["containers"][0] for name, pod in pods(objects).items()}
    probes = {name: [key for key in container if key.endswith("Probe")] for name, container in containers.items()}
    asked = {key: containers["web"][key]["httpGet"]["path"] for key in probes.pop("web")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert not any(probes.values())


@needs("kubectl")
def test_every_process_has_time_to_end(objects: list[dict[str, Any]]) -> None:
    graces = {name: pod.get("terminationGracePeriodSeconds", 30) for name, pod in pods(objects).items()}
    _, pause = pods(objects)["web"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert graces["web"] - int(pause) > 10
    assert min(graces.values()) > 10


@needs("kubectl")
def test_settings_exist_and_secrets_are_named_not_told(objects: list[dict[str, Any]]) -> None:
    known = {field.upper() for field in config.Settings.__struct_fields__}
    (settings,) = [one["data"] for one in objects if one["kind"] == "ConfigMap"]
    variables = [variable for pod in pods(objects).values() for variable in pod["containers"][0].get("env", [])]
    assert {*settings, *(variable["name"] for variable in variables)} <= known
    given = {**settings, **{variable["name"]: variable["value"] for variable in variables if "value" in variable}}
    assert given.keys().isdisjoint(config.SECRETS)
    config.load((), given, FOLDER / "none")
    assert not [one for one in objects if one["kind"] == "Secret"]
    sources = [source for pod in pods(objects).values() for source in pod["containers"][0]["envFrom"]]
    assert {source["secretRef"]["name"] for source in sources if "secretRef" in source} == {"headshot-mirror"}


@needs("kubectl")
def test_what_is_applied_first_is_enough_for_the_migration(objects: list[dict[str, Any]]) -> None:
    # docs/operations/deploying.md selects these two by their label.
    labels = {one["kind"]: one["metadata"]["labels"].get("app.kubernetes.io/component") for one in objects}
    assert {kind for kind, label in labels.items() if label in {"settings", "migrate"}} == {"ConfigMap", "Job"}
    (settings,) = [one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"]
    assert pods(objects)["migrate"]["containers"][0]["envFrom"][0] == {"configMapRef": {"name": settings}}


@needs("kubectl")
def test_budgets_and_services_select_the_pods_they_mean(objects: list[dict[str, Any]]) -> None:
    kinds = ("Deployment", "PodDisruptionBudget")
    chosen = {
        kind: {one["metadata"]["name"]: one["spec"]["selector"] for one in objects if one["kind"] == kind}
        for kind in kinds
    }
    assert chosen["PodDisruptionBudget"] == chosen["Deployment"]
    (service,) = [one for one in objects if one["kind"] == "Service"]
    assert service["spec"]["selector"] == chosen["Deployment"]["web"]["matchLabels"]


@needs("kubectl")
def test_only_the_webhook_endpoint_is_reachable_from_outside(objects: list[dict[str, Any]]) -> None:
    (ingress,) = [one for one in objects if one["kind"] == "Ingress"]
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert [(path["path"], path["pathType"]) for path in paths] == [
        (WEBHOOK_PATH, "Exact"),
        (f"{WEBHOOK_PATH}/", "Exact"),
    ]
    assert ingress["spec"]["tls"]
    services = [one["spec"].get("type", "ClusterIP") for one in objects if one["kind"] == "Service"]
    assert services == ["ClusterIP"]
