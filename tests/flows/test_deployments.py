"""prefect.yaml: the deployments for a Prefect server with work pools."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
import yaml
from docker.models.containers import RUN_CREATE_KWARGS, RUN_HOST_CONFIG_KWARGS
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ParameterTypeError
from prefect.settings import PREFECT_WORKER_WEBSERVER_PORT
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate
from prefect.utilities.schema_tools.validation import ValidationError
from prefect_kubernetes.settings import KubernetesSettings
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from flows.retrain import retrain
from flows.settings import FlowSettings, load_settings
from flows.train import train
from tests.deploy.chart import MANIFESTS, Manifest, by_name, environment, object_storage, pods, render
from training.config import read_toml

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
KUBERNETES: dict[str, Any] = json.loads((ROOT / "flows" / "kubernetes.json").read_text())
MANIFESTS_OF_CHART: list[Manifest] = list(yaml.safe_load_all(MANIFESTS.read_text()))
POOLS = {"tagmask": "process", "tagmask-docker": "docker", "tagmask-kubernetes": "kubernetes"}


def name(deployment: dict[str, Any]) -> str:
    return f"{deployment['entrypoint'].rsplit('.', 1)[1]}/{deployment['name']}"


@pytest.fixture(params=DEPLOYMENTS, ids=name)
def deployment(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_deployments_have_different_names():
    assert len({name(deployment) for deployment in DEPLOYMENTS}) == len(DEPLOYMENTS)


def test_flows_are_there_and_take_the_parameters(deployment: dict[str, Any]):
    module, function = deployment["entrypoint"].rsplit(".", 1)
    flow = getattr(importlib.import_module(module), function)
    assert isinstance(flow, Flow)
    flow.validate_parameters(deployment["parameters"])


@pytest.mark.parametrize("flow", [train, retrain])
@pytest.mark.parametrize("section", ["", "pixelnet", "pixelnet.fit", "regionnet.fit", "classifier.augment"])
def test_settings_that_are_not_named_keep_their_defaults(flow: Flow[..., Any], section: str, tmp_path: Path):
    """As in the file that `--config` names; Prefect's server checks the same."""
    name = {"": "long_side", "pixelnet": "width", "classifier.augment": "crop"}.get(section, "batch")
    file = tmp_path / "flows.toml"
    file.write_text(f"[train{section and '.' + section}]\n{name} = 64\n")
    parameters = {"workspace": "/w", "sources": ["/i"], "settings": read_toml(file)}
    validate(parameters, parameter_schema(flow).model_dump(), raise_on_error=True)
    assert flow.validate_parameters(parameters)["settings"] == load_settings(file)


BEFORE = """
second = "skip"
keep.bundles = 3
[train]
rounds = 1
keep.agreement = 0.1
[work]
where = "here"
shard = 5
[when]
new_photos = 7
[warm]
start = false
epochs = 0.5
[data]
least_photos = 4
most_held_out = 20
"""
NOW = """
if_busy = "skip"
retention.bundles = 3
[train]
rounds = 1
decision.agreement = 0.1
[tasks]
runner = "inline"
shard_size = 5
[trigger]
new_photos = 7
[warm_start]
enabled = false
epochs_factor = 0.5
[data]
min_photos = 4
max_held_out = 20
"""


def test_a_file_may_have_the_names_that_settings_had_before(tmp_path: Path):
    before, now = tmp_path / "before.toml", tmp_path / "now.toml"
    before.write_text(BEFORE)
    now.write_text(NOW)
    assert load_settings(before) == load_settings(now)
    assert not {name for name, value in load_settings(now) if value == getattr(FlowSettings(), name)} - {
        "device", "precision", "tensorboard", "gate",
    }  # fmt: skip


def test_forms_show_the_defaults_of_each_section():
    schema = FlowSettings.model_json_schema()
    shown = schema["properties"]["train"]["properties"]["pixelnet"]["properties"]["fit"]["properties"]
    fit = FlowSettings().train.pixelnet.fit.model_dump()
    assert {name: each["default"] for name, each in shown.items()} == fit


@pytest.mark.parametrize("settings", [{"notify": {}}, {"train": {"round": 3}}, {"gate": 1}])
def test_settings_that_a_file_may_not_have_are_refused(settings: dict[str, Any]):
    parameters = {"workspace": "/w", "sources": ["/i"], "settings": settings}
    with pytest.raises(ValidationError):
        validate(parameters, parameter_schema(retrain).model_dump(), raise_on_error=True)
    with pytest.raises(ParameterTypeError):
        retrain.validate_parameters(parameters)


def test_kubernetes_variables_are_those_of_the_template():
    (deployment,) = [each for each in DEPLOYMENTS if each["work_pool"]["name"] == "tagmask-kubernetes"]
    variables = KUBERNETES["variables"]
    values = deployment["work_pool"]["job_variables"]
    assert set(values) <= set(variables["properties"])
    validate(values, variables, raise_on_error=True)
    job = json.dumps(KUBERNETES["job_configuration"])
    assert all(f"{{{{ {each} }}}}" in job for each in variables["properties"])
    assert job.count("{{") == sum(job.count(f"{{{{ {each} }}}}") for each in variables["properties"])


@pytest.fixture(params=["prefect.yaml", "chart", "chart with object storage"])
def job_variables(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Those of the deployment `kubernetes`, and those of the Helm chart with every value, and with a bucket."""
    if request.param == "chart with object storage":
        return chart_deployment(render(object_storage()))["work_pool"]["job_variables"] | {"gpus": 1}
    if request.param == "chart":
        job = {"gpus": 1, "env": {"A": "1"}, "nodeSelector": {"gpu": "l4"}, "tolerations": [{"operator": "Exists"}]}
        images = {"pullSecrets": [{"name": "registry"}]}
        return chart_deployment(render({"images": images, "retraining": {"job": job}}))["work_pool"]["job_variables"]
    (deployment,) = [each for each in DEPLOYMENTS if each["name"] == "kubernetes"]
    return deployment["work_pool"]["job_variables"]


def chart_deployment(manifests: list[Manifest]) -> dict[str, Any]:
    config = by_name(manifests)["ConfigMap", "tagmask-deployment"]
    (deployment,) = yaml.safe_load(config["data"]["prefect.yaml"])["deployments"]
    return deployment


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_jobs_are_valid_and_locked_down(version: str, job_variables: dict[str, Any], prefect_api: str):
    validate(job_variables, KUBERNETES["variables"], raise_on_error=True)
    configuration: Any = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(KUBERNETES, job_variables)
    )
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="run"))
    job = configuration.job_manifest
    kubernetes_validate.validate(job, version, strict=True)
    template = job["spec"]["template"]
    assert job_variables.get("labels", {}).items() <= template["metadata"]["labels"].items()
    pod = template["spec"]
    (container,) = pod["containers"]
    service = pods(MANIFESTS_OF_CHART)["tagmask"]
    assert pod["securityContext"] == service["securityContext"]
    assert container["securityContext"] == service["containers"][0]["securityContext"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts["temporary"] == "/tmp", "nothing else but the claims can be written"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_jobs_find_the_bucket_with_keys_from_the_secret(prefect_api: str):
    values = object_storage()
    deployment = chart_deployment(render(values))
    url, secret = values["objectStorage"]["url"], values["objectStorage"]["secret"]
    parameters = retrain.validate_parameters(deployment["parameters"])
    assert parameters["sources"] == [f"{url}/inbox", *values["retraining"]["sources"]]
    assert parameters["store"] == f"{url}/store"
    configuration: Any = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(KUBERNETES, deployment["work_pool"]["job_variables"])
    )
    pod = configuration.job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": secret}}]
    assert configuration.env == {"AWS_REGION": "eu-central-1", "TAGMASK_CACHE": "/workspace/cache"}
    claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [{"claimName": "tagmask-workspace"}]


def test_docker_containers_are_locked_down_as_in_compose():
    training = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["training"]
    (deployment,) = [each for each in DEPLOYMENTS if each["work_pool"]["name"] == "tagmask-docker"]
    options = deployment["work_pool"]["job_variables"]["container_create_kwargs"]
    assert options.keys() <= {*RUN_CREATE_KWARGS, *RUN_HOST_CONFIG_KWARGS, "network"}
    for name in ("read_only", "cap_drop", "security_opt", "shm_size"):
        assert options[name] == training[name]
    assert [f"{path}:{given}" for path, given in options["tmpfs"].items()] == training["tmpfs"]
    assert options["pids_limit"] == training["deploy"]["resources"]["limits"]["pids"]


def test_all_are_deployed(prefect_api: str, tmp_path: Path):
    environment = {**os.environ, "TAGMASK_WORKSPACE": str(tmp_path), "TAGMASK_INBOX": "/srv/inbox"}
    with get_client(sync_client=True) as client:
        for pool, kind in POOLS.items():
            template = KUBERNETES if kind == "kubernetes" else {}
            client.create_work_pool(WorkPoolCreate(name=pool, type=kind, base_job_template=template), overwrite=True)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        for deployment in DEPLOYMENTS:
            deployed = client.read_deployment_by_name(name(deployment))
            assert deployed.pull_steps == []
            assert deployed.work_pool_name == deployment["work_pool"]["name"]
            assert deployed.global_concurrency_limit.limit == 1
            assert deployed.concurrency_options.collision_strategy == "ENQUEUE"
            assert [schedule.schedule for schedule in deployed.schedules] == [
                CronSchedule(**schedule) for schedule in deployment.get("schedules", [])
            ]
        assert client.read_deployment_by_name("retrain/process").parameters["workspace"] == str(tmp_path)


def test_the_worker_of_the_chart_deploys(prefect_api: str, tmp_path: Path):
    """What its first container does, against a real server that has the pool already, as after a restart."""
    (first,) = pods(MANIFESTS_OF_CHART)["tagmask-worker"]["initContainers"]
    config = by_name(MANIFESTS_OF_CHART)["ConfigMap", "tagmask-deployment"]
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    script = first["args"][0].replace("/deployment", str(tmp_path))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="tagmask-kubernetes", type="kubernetes"), overwrite=True)
        done = subprocess.run(
            [*first["command"], script], env={**os.environ, "PATH": path}, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        pool = client.read_work_pool("tagmask-kubernetes")
        deployed = client.read_deployment_by_name("retrain/tagmask")
    assert (pool.type, pool.base_job_template) == ("kubernetes", KUBERNETES)
    assert deployed.work_pool_name == pool.name
    assert deployed.job_variables == chart_deployment(MANIFESTS_OF_CHART)["work_pool"]["job_variables"]
    assert [each.schedule for each in deployed.schedules] == [CronSchedule(cron="0 3 * * *", timezone="Etc/UTC")]
    assert deployed.global_concurrency_limit.limit == 1
    retrain.validate_parameters(deployed.parameters)


def test_the_worker_of_the_chart_gets_settings_that_it_has(monkeypatch: pytest.MonkeyPatch):
    (container,) = pods(MANIFESTS_OF_CHART)["tagmask-worker"]["containers"]
    for name, value in environment(container).items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    settings = KubernetesSettings()
    secret = (settings.worker.api_auth_string_secret_name, settings.worker.api_auth_string_secret_key)
    assert secret == tuple(environment(container)["PREFECT_API_AUTH_STRING"]["secretKeyRef"].values())
    assert settings.observer.namespaces == {"tagmask"}
    assert settings.cluster_uid == "tagmask/tagmask"
    (port,) = container["ports"]
    assert port["containerPort"] == PREFECT_WORKER_WEBSERVER_PORT.value()
