"""The Helm chart: valid for Kubernetes, locked down, and in step with the images, the settings and Compose."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.http.app import ROUTES
from service.settings import PREFIX, Settings
from tagmask.inputs import location
from tests.deploy.chart import (
    CHART,
    MANIFESTS,
    OBJECT_STORAGE,
    ROOT,
    Manifest,
    by_name,
    environment,
    object_storage,
    pods,
    render,
)

VERSIONS = ("1.29", "1.37")
"""The oldest version of Kubernetes that Chart.yaml allows, and the newest with a schema."""

CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
"""Kinds that are not part of Kubernetes."""

EVERYTHING = {
    "images": {"pullSecrets": [{"name": "registry"}]},
    "service": {
        "env": {"FORWARDED_ALLOW_IPS": "10.0.0.0/8", "TAGMASK_DEVICE": "cuda"},
        "resources": {"limits": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": 1}},
        "nodeSelector": {"accelerator": "l4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "masks.example.org",
        "tlsSecret": "masks-tls",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "100m"},
    },
    "autoscaling": {"enabled": True},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {
        "serviceFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        "serviceTo": [{"ports": [{"port": 4318}]}],
    },
    "volumes": {"store": {"existingClaim": "models"}, "inbox": {"storageClass": "nfs"}},
    "retraining": {
        "settings": {"device": "cuda", "train": {"rounds": 2}},
        "databaseSecret": "tagmask-database",
        "job": {"gpus": 1, "env": {"TAGMASK_NOTIFY": "echo"}, "nodeSelector": {"accelerator": "h100"}},
    },
}


IN_BUCKET = ROOT / "deploy" / "kubernetes-object-storage.yaml"


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return list(yaml.safe_load_all(MANIFESTS.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return render(EVERYTHING)


@pytest.fixture(scope="module")
def in_bucket() -> list[Manifest]:
    """The manifests for object storage."""
    return list(yaml.safe_load_all(IN_BUCKET.read_text(encoding="utf-8")))


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(version: str, manifests: list[Manifest], in_bucket: list[Manifest]):
    for manifest in (*manifests, *in_bucket):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_manifests_are_up_to_date(manifests: list[Manifest], in_bucket: list[Manifest]):
    command = "helm template tagmask deploy/helm/tagmask --namespace tagmask"
    assert by_name(manifests) == by_name(render()), f"{command} > {MANIFESTS}"
    assert by_name(in_bucket) == by_name(render(object_storage())), f"{command} -f {OBJECT_STORAGE} > {IN_BUCKET}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_value_gives_valid_manifests(version: str, everything: list[Manifest]):
    for manifest in everything:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)
    kinds = {manifest["kind"] for manifest in everything}
    assert kinds >= {*CUSTOM, "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Role"}


def test_oldest_version_is_that_of_the_chart():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


def test_chart_passes_helm_lint():
    chart = pytest.importorskip("helm_python.chart", reason="helm-python-sdk is not installed")
    report = chart.lint(CHART, EVERYTHING, strict=True)
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ingress": {"enabled": True}}, "/ingress/host"),
        ({"service": {"replica": 3}}, "replica"),
        ({"service": {"env": {"TAGMASK_MAX_FILES": 4}}}, "TAGMASK_MAX_FILES"),
        ({"retraining": {"job": {"gpus": -1}}}, "gpus"),
        ({"volumes": {"store": {"size": "10 GB"}}}, "size"),
        ({"objectStorage": {"url": "https://bucket.s3.amazonaws.com/tagmask"}}, "/objectStorage/url"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], message: str):
    with pytest.raises(Exception, match=re.escape(message)):
        render(values)


def test_pods_are_locked_down(manifests: list[Manifest]):
    """As the Pod Security Standard `restricted` asks, and more."""
    for name, pod in pods(manifests).items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {security[each] for each in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is (name == "tagmask-worker")
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_service_gets_settings_that_it_has(everything: list[Manifest]):
    (container,) = pods(everything)["tagmask"]["containers"]
    variables = environment(container)
    ours = {name.removeprefix(PREFIX).lower() for name in variables if name.startswith(PREFIX)}
    assert ours <= Settings.model_fields.keys()
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {variables["TAGMASK_STORE"], variables["TAGMASK_INBOX"]} <= mounts
    for file in (variables["TAGMASK_API_KEYS_FILE"], variables["TAGMASK_ADMIN_KEYS_FILE"]):
        assert file.rpartition("/")[0] in mounts
    assert variables["TAGMASK_API_KEYS"]["secretKeyRef"] == {"name": "tagmask-keys", "key": "metrics_key"}
    assert variables["FORWARDED_ALLOW_IPS"] == "10.0.0.0/8"


def test_probes_ask_what_the_service_answers(manifests: list[Manifest]):
    (container,) = pods(manifests)["tagmask"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in probes.values()} <= {route.path for route in ROUTES}
    assert probes["readiness"]["path"] == "/readyz" != probes["liveness"]["path"]
    assert container["ports"] == [{"name": "http", "containerPort": 3000}]
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert "EXPOSE 3000\n" in (ROOT / "service" / "container" / "Dockerfile").read_text(encoding="utf-8")


def test_requests_in_flight_may_finish(manifests: list[Manifest]):
    pod = pods(manifests)["tagmask"]
    word, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + Settings.model_fields["max_seconds"].default + 10


def test_selectors_select_their_pods_alone(everything: list[Manifest]):
    named = by_name(everything)
    labels = {name: named["Deployment", name]["spec"]["template"]["metadata"]["labels"] for name in pods(everything)}

    def selected(selector: dict[str, str]) -> list[str]:
        return [name for name, each in labels.items() if selector.items() <= each.items()]

    for name in labels:
        assert selected(named["Deployment", name]["spec"]["selector"]["matchLabels"]) == [name]
    assert selected(named["Service", "tagmask"]["spec"]["selector"]) == ["tagmask"]
    assert selected(named["Service", "tagmask-prefect"]["spec"]["selector"]) == ["tagmask-prefect"]
    assert selected(named["PodDisruptionBudget", "tagmask"]["spec"]["selector"]["matchLabels"]) == ["tagmask"]
    monitored = named["ServiceMonitor", "tagmask"]["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= named["Service", "tagmask"]["metadata"]["labels"].items()


def test_prefect_is_reached_by_worker_and_jobs_alone(manifests: list[Manifest]):
    named = by_name(manifests)
    (rule,) = named["NetworkPolicy", "tagmask-prefect"]["spec"]["ingress"]
    components = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"] if len(peer) == 1
    }
    assert components == {"worker", "training"}
    assert len(rule["from"]) == 2
    assert named["NetworkPolicy", "tagmask"]["spec"]["egress"] == []


def test_prefect_server_is_that_of_compose(manifests: list[Manifest]):
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["prefect"]
    (container,) = pods(manifests)["tagmask-prefect"]["containers"]
    variables = environment(container)
    origins = "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"
    expected = {**compose["environment"], origins: "http://127.0.0.1:4200"}
    assert variables == {**expected, "PREFECT_SERVER_API_AUTH_STRING": variables["PREFECT_SERVER_API_AUTH_STRING"]}
    assert (container["image"], "command" in container) == (compose["image"], False)


def claimed(given: list[Manifest]) -> set[str]:
    volumes = [volume for pod in pods(given).values() for volume in pod["volumes"]]
    return {each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each}


def test_claims_are_there(everything: list[Manifest], manifests: list[Manifest]):
    made = {name for kind, name in by_name(manifests) if kind == "PersistentVolumeClaim"}
    assert made == claimed(manifests) | {"tagmask-workspace"}, "the workspace is that of the jobs"
    assert "tagmask-store" not in {name for kind, name in by_name(everything) if kind == "PersistentVolumeClaim"}
    assert "models" in claimed(everything)


def test_without_retraining_the_service_is_left():
    kinds = by_name(render({"retraining": {"enabled": False}}))
    assert not {kind for kind, _ in kinds} & {"Role", "RoleBinding", "ServiceAccount", "ConfigMap"}
    assert {name for kind, name in kinds if kind == "PersistentVolumeClaim"} == {"tagmask-store", "tagmask-inbox"}


def test_object_storage_takes_the_place_of_volumes(in_bucket: list[Manifest]):
    named, values = by_name(in_bucket), object_storage()["objectStorage"]
    assert {name for kind, name in named if kind == "PersistentVolumeClaim"} == {"tagmask-workspace", "tagmask-prefect"}
    assert claimed(in_bucket) == {"tagmask-prefect"}
    for name in ("tagmask", "tagmask-worker"):
        (container,) = pods(in_bucket)[name]["containers"]
        variables = environment(container)
        assert variables["TAGMASK_STORE"] == location(f"{values['url']}/store")
        assert values["env"].items() <= variables.items()
        assert container["envFrom"] == [{"secretRef": {"name": values["secret"]}}], "keys are in the Secret alone"
    (service,) = pods(in_bucket)["tagmask"]["containers"]
    variables, (volume,) = (
        environment(service),
        [each for each in pods(in_bucket)["tagmask"]["volumes"] if each["name"] == "cache"],
    )
    assert variables["TAGMASK_INBOX"] == f"{values['url']}/inbox"
    assert {"name": "cache", "mountPath": variables["TAGMASK_CACHE"]} in service["volumeMounts"]
    assert int(variables["TAGMASK_CACHE_BYTES"]) < int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 2**20
    (rule,) = named["NetworkPolicy", "tagmask"]["spec"]["egress"]
    assert {each["port"] for each in rule["ports"]} == {53, 443}


def test_documented_values_are_those_of_the_manifests():
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (values,) = re.findall(r"```yaml\n(objectStorage:.*?)```", page, re.DOTALL)
    assert yaml.safe_load(values) == object_storage()


def test_credentials_of_the_machine_need_no_secret():
    values = {"objectStorage": {"url": "s3://bucket/prefix/", "secret": ""}}
    (container,) = pods(render(values))["tagmask"]["containers"]
    assert environment(container)["TAGMASK_STORE"] == "s3://bucket/prefix/store"
    assert "envFrom" not in container
