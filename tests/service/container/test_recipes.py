"""The recipes for images and for Compose, read as text: no engine is needed to see what they promise."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from flows.orchestration.server import QUIET
from flows.orchestration.server_process import SERVER_DEFAULTS
from flows.settings import load_settings
from service.settings import PREFIX, Settings
from tagmask.cache import FOLDER
from tagmask.cli.main import app

ROOT = Path(__file__).parents[3]
SERVICE, TRAINING = (ROOT / package / "container" / "Dockerfile" for package in ("service", "training"))
Stages = dict[str, list[tuple[str, str]]]


def stages(path: Path) -> Stages:
    """Instructions of each stage, those of the stage it is built upon first; the last one is called "" as well."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: Stages = {}
    current: list[tuple[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = [*found.get(base, [("FROM", base)])]
            found[name] = current
        elif found:
            current.append((word, rest.strip()))
    return found | {"": current}


def last(stage: list[tuple[str, str]], word: str) -> str:
    return [rest for each, rest in stage if each == word][-1]


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [pair.partition("=") for word, rest in stage if word == "ENV" for pair in rest.split()]
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8")))


IMAGES = [(SERVICE, "cpu"), (SERVICE, "cuda"), (TRAINING, "cpu"), (TRAINING, "cuda"), (TRAINING, "prefect")]


@pytest.mark.parametrize(("path", "stage"), IMAGES)
def test_images_run_as_another_user_than_root_without_a_compiler(path: Path, stage: str):
    steps = stages(path)[stage]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last(steps, "USER"))
    assert not any("g++" in rest or "pip install" in rest for _, rest in steps)
    assert all("--chown" not in rest for word, rest in steps if word == "COPY"), "nobody can change the code"
    assert isinstance(json.loads(last(steps, "ENTRYPOINT")), list), "signals arrive where no shell stands between"


def test_users_of_shared_volumes_are_the_same():
    assert len({last(stages(path)[stage], "USER") for path, stage in IMAGES}) == 1


def test_images_are_the_cpu_variant_unless_told_otherwise():
    service, training = stages(SERVICE), stages(TRAINING)
    assert service[""] == service["cpu"] != service["cuda"]
    assert training[""] == training["cpu"] != training["cuda"]
    assert "onnxruntime-gpu[cuda,cudnn]" in str(service["packages-cuda"])
    assert "onnxruntime-gpu" not in str(service["packages"])
    assert "--group gpu" in str(training["packages-cuda"])
    assert "--group gpu" not in str(training["packages-cpu"])


@pytest.mark.parametrize("path", [SERVICE, TRAINING])
def test_all_packages_are_taken_from_the_index_that_is_named(path: Path):
    built = stages(path)
    arguments = {name.partition("=")[0] for word, name in built["installer"] if word == "ARG"}
    assert arguments == {"INDEX", "CA"}
    variables = environment(built["installer"])
    assert variables["PIP_INDEX_URL"] == variables["UV_DEFAULT_INDEX"] == "$INDEX"
    for name, steps in built.items():
        if any(re.search(r"\b(uv|pip) ", rest) for word, rest in steps if word == "RUN"):
            assert steps[: len(built["installer"])] == built["installer"], name


def test_images_of_compose_are_made_by_make(compose: dict[str, Any]):
    cuda = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text(encoding="utf-8"))
    services = [*compose["services"].values(), *cuda["services"].values()]
    images = {each["image"].replace("${TAGMASK_IMAGE:-cpu}", "cpu") for each in services}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert images == set(re.findall(r"--tag (tagmask:[\w-]+)", makefile))
    assert all(each["pull_policy"] == "never" for each in compose["services"].values())


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_service_writes_below_tmp_and_reports_to_nobody(stage: str):
    variables = environment(stages(SERVICE)[stage])
    assert {variables["HOME"], variables["BENTOML_HOME"]} == {"/tmp", "/tmp/bentoml"}
    assert variables["BENTOML_DO_NOT_TRACK"] == "True"
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"
    assert variables["BENTOML_PORT"] == last(stages(SERVICE)[stage], "EXPOSE")


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_training_reports_to_nobody(stage: str):
    variables = environment(stages(TRAINING)[stage])
    names = {"DO_NOT_TRACK": "1", "ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    assert names.items() <= variables.items()
    assert QUIET["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_service_image_copies_and_runs_is_in_the_bento():
    steps = [step for stage in stages(SERVICE).values() for step in stage]
    copied = {rest.split()[0] for word, rest in steps if word == "COPY" and not rest.startswith("--from")}
    assert copied == {"env/python/requirements.txt", "src/constraints.txt", "bento.yaml", "src"}
    check = json.loads(last(stages(SERVICE)["cpu"], "HEALTHCHECK").partition("CMD ")[2])
    assert (ROOT / check[-1].removeprefix("/opt/tagmask/src/")).is_file()


def test_the_bento_needs_no_pytorch(tmp_path: Path):
    """Where nothing is set up yet, only the extra `serve` is installed."""
    command = ["make", "--dry-run", "bento", f"VENV={tmp_path / 'venv'}", f"BENTOML={tmp_path / 'bentoml'}"]
    steps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--editable '(.*)'", steps) == [".[serve]"]


def test_service_is_locked_down(compose: dict[str, Any]):
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
        assert {"memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
        assert not {"privileged", "cap_add", "network_mode", "user"} & service.keys()


def test_service_listens_to_its_own_machine_and_wants_keys(compose: dict[str, Any]):
    service = compose["services"]["service"]
    assert all(re.match(r"\$\{\w+:-127\.0\.0\.1:\d+\}:3000$", port) for port in service["ports"])
    variables = service["environment"]
    assert {Path(variables[f"{PREFIX}{who}_KEYS_FILE"]).name for who in ("API", "ADMIN")} == set(compose["secrets"])
    assert set(service["secrets"]) == set(compose["secrets"])
    assert {name.removeprefix(PREFIX).lower() for name in variables} <= Settings.model_fields.keys()


def test_service_has_the_time_to_finish_what_it_began(compose: dict[str, Any]):
    seconds = int(compose["services"]["service"]["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings.model_fields["max_seconds"].default + 5


def test_training_shares_the_volumes_and_starts_when_asked(compose: dict[str, Any]):
    service, training, retraining = (compose["services"][name] for name in ("service", "training", "retraining"))
    assert set(service["volumes"]) & set(training["volumes"]) == {"store:/store", "inbox:/inbox"}
    assert {"store:/store", "inbox:/inbox:ro"} <= set(retraining["volumes"]), "sources are never written to"
    assert (training["profiles"], retraining["profiles"]) == (["training"], ["retraining"])
    assert "profiles" not in service
    mounts = [mount for each in compose["services"].values() for mount in each["volumes"]]
    assert {mount.split(":")[0] for mount in mounts if mount[0].isalpha()} | {"data"} == set(compose["volumes"])
    assert "${TAGMASK_DATA:-data}:/data:ro" in mounts, "no folder is made where none is named"


def test_volumes_of_the_training_images_belong_to_their_user(compose: dict[str, Any]):
    folders = next(rest for word, rest in stages(TRAINING)[""] if word == "RUN" and "install --directory" in rest)
    services = [compose["services"][name] for name in ("training", "retraining", "prefect")]
    mounts = {mount.split(":")[1] for each in services for mount in each["volumes"] if mount[0].isalpha()}
    assert mounts <= set(folders.partition("install --directory")[2].split())


def test_the_training_image_is_built_from_all_packages():
    let_through = (TRAINING.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {f"!{name}" for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} <= set(
        let_through
    )


def test_settings_have_their_defaults_unless_a_file_is_named(compose: dict[str, Any]):
    (mount,) = [each for each in compose["services"]["retraining"]["volumes"] if "TAGMASK_SETTINGS" in each]
    default = re.fullmatch(r"\$\{TAGMASK_SETTINGS:-(.+)\}:/settings.toml:ro", mount)
    assert default
    assert load_settings(ROOT / default[1]) == load_settings(None)


def test_prefect_is_reached_from_this_machine_and_from_retraining_alone(compose: dict[str, Any]):
    prefect, retraining = compose["services"]["prefect"], compose["services"]["retraining"]
    (port,) = prefect["ports"]
    assert port == "127.0.0.1:${TAGMASK_PREFECT_PORT:-4200}:4200"
    assert prefect["networks"] == retraining["networks"] == ["retraining"]
    assert not any("networks" in compose["services"][name] for name in ("service", "training"))
    variables = {**environment(stages(TRAINING)["prefect"]), **prefect["environment"]}
    assert variables["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == f"http://{port.removesuffix(':4200')}"
    assert variables["PREFECT_HOME"] in {mount.split(":")[1] for mount in prefect["volumes"]}, "history survives"
    assert {**SERVER_DEFAULTS, **QUIET}.items() <= variables.items()


def test_the_scheduler_s_command_is_there(compose: dict[str, Any]):
    group: Any = get_command(app)
    flow, schedule, source, *options = compose["services"]["retraining"]["command"]
    known = {name for each in group.commands[flow].commands[schedule].params for name in each.opts}
    assert {option.partition("=")[0] for option in options} <= known
    assert source in {mount.split(":")[1] for mount in compose["services"]["retraining"]["volumes"]}


def test_postgresql_takes_the_place_of_sqlite(compose: dict[str, Any]):
    added = yaml.safe_load((ROOT / "compose.postgres.yaml").read_text(encoding="utf-8"))
    prefect, database = added["services"]["prefect"], added["services"]["database"]
    assert prefect["environment"].keys() == {"PREFECT_API_DATABASE_CONNECTION_URL"}
    assert prefect["depends_on"].keys() == {"database"}
    assert "ports" not in database
    assert database["networks"] == compose["services"]["prefect"]["networks"]
    assert database["profiles"] == compose["services"]["prefect"]["profiles"]
    assert database["cap_drop"] == ["ALL"]


def test_a_bucket_takes_the_place_of_store_and_inbox(compose: dict[str, Any]):
    added = yaml.safe_load((ROOT / "compose.object-storage.yaml").read_text(encoding="utf-8"))
    services = added["services"]
    assert services.keys() == {name for name in compose["services"] if name != "prefect"}
    for each in services.values():
        variables = each["environment"]
        assert variables["TAGMASK_STORE"] == "${TAGMASK_STORAGE:?}/store"
        assert {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {FOLDER} >= variables.keys()
        assert each["env_file"] == ["${TAGMASK_SECRETS:-./secrets}/object-storage.env"], "keys are in files alone"
        assert each["volumes"] == [f"cache:{variables[FOLDER]}"]
    known, changed = compose["services"]["retraining"]["command"], services["retraining"]["command"]
    assert changed == [variables["TAGMASK_INBOX"] if each == "/inbox" else each for each in known]
    for path in (SERVICE, TRAINING):
        folders = next(rest for word, rest in stages(path)["cpu"] if word == "RUN" and "install --directory" in rest)
        assert variables[FOLDER] in folders.split(), "new volumes belong to the user of the images"


def test_gpus_are_asked_for_of_the_same_services(compose: dict[str, Any]):
    cuda = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text(encoding="utf-8"))
    assert cuda["services"].keys() <= compose["services"].keys()
    assert cuda["services"]["service"]["image"] == "tagmask:cuda"
    for service in cuda["services"].values():
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
