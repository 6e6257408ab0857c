"""docs/flows.md: its commands run, and what it names exists.

They run in a project with modules named like Tagmask's packages, which none of Tagmask's processes may import.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from benchmarks.flows import toml
from examples.demo.drawing import make_demo_photos
from flows.orchestration.notifications import Event
from flows.settings import FlowSettings, NotifySettings, TriggerSettings, load_notify, load_settings
from flows.workspace import Workspace
from tagmask.errors import ConfigError
from tagmask.store import Store
from tests.pages import ROOT, blocks, lines, read
from training.config import load_config

PAGE = "docs/flows.md"
TEXT = read(PAGE)
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = {"PATH": PATH, "PREFECT_WORKER_QUERY_SECONDS": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose modules cannot be imported; commands find it on their path."""
    for name in ("flows/__init__.py", "training/__init__.py", "service.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('a module of the project was imported')\n")
    return tmp_path


@pytest.fixture
def desk(project: Path, workspace: Workspace, drawn: Path, tiny: FlowSettings) -> Path:
    """A project with the files that the commands name; WORKSPACE has a champion of PHOTOS, by flows.toml."""
    workspace.root.rename(project / "WORKSPACE")
    shutil.copytree(drawn, project / "PHOTOS")
    make_demo_photos(project / "INBOX", photos=16, size=64, seed=1)
    tasks = tiny.tasks.model_copy(update={"runner": "processes", "workers": 1, "shard_size": 64})
    settings = tiny.model_copy(update={"trigger": TriggerSettings(new_photos=5), "tasks": tasks})
    values = settings.model_dump(mode="json", exclude_none=True)
    (project / "flows.toml").write_text(toml(values), encoding="utf-8")
    return project


@pytest.mark.usefixtures("prefect_api")
def test_commands_of_one_machine_run_in_their_order(desk: Path):
    store = Store(desk / "WORKSPACE/store")
    (first,) = store.versions()
    sample = hashlib.sha256(next((desk / "PHOTOS" / "images").iterdir()).read_bytes()).hexdigest()
    outputs = []
    for line in lines(PAGE):
        if line.startswith("tagmask ") and "WORKSPACE" in line and "flow schedule" not in line:
            line = line.replace("VERSION", first).replace("ID…", sample)
            options = " --config flows.toml" if "train " in line else ""
            outputs.append(shell(f"export PYTHONPATH=.; {line}{options}", desk))
    trained, retrained, forgotten, runs, listed, history, promoted, rolled_back, _ = (text.strip() for text in outputs)
    (second,) = set(store.versions()) - {first}
    assert forgotten.splitlines()[-1] == "1 sample forgotten"
    assert all(version in runs for version in (first, second))
    assert trained.splitlines()[-1].startswith("unchanged: ")
    assert retrained.splitlines()[-1].startswith(f"promoted: {second}")
    assert all(version in output for version in (first, second) for output in (listed, history))
    assert first in promoted
    assert second in rolled_back
    champion = store.champion()
    assert champion is not None
    assert champion.version == second


@pytest.mark.usefixtures("prefect_api")
def test_schedule_runs_until_it_is_stopped(project: Path):
    (project / "INBOX").mkdir()
    (project / "flows.toml").touch()
    (line,) = [line for line in lines(PAGE) if line.startswith("tagmask flow schedule")]
    named = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=project,
        env={**environment, **ENVIRONMENT, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first, _, by_hand = process.stdout.readline().strip().partition("; to run it now: ")
        assert re.search(r"03:00:00 CES?T$", first)
        elsewhere = (
            f"unset {' '.join(named)}; export PREFECT_HOME=$PWD/other PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false; "
        )
        assert "in 'Unchanged'" in shell(f"{elsewhere}{by_hand} --watch", project)
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 0


def test_commands_of_a_server_and_a_worker_run(prefect_api: str, tmp_path: Path):
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    (tmp_path / "inbox").mkdir()
    (script,) = [block for block in blocks(PAGE) if "prefect server start" in block]
    output = shell(
        """
        set -m
        trap 'kill -KILL $(jobs -p); wait' EXIT
        prefect() {
            case "$*" in
                "server start"*) ;;
                "work-pool create"*) command prefect "$@" --overwrite ;;
                "worker start"*) command prefect "$@" & ;;
                # On a busy machine it was seen to watch on when the run had ended; another run ends the same.
                "deployment run"*) timeout 110 prefect "$@" --watch || timeout 110 prefect "$@" --watch ;;
                *) command prefect "$@" ;;
            esac
        }
        """
        + script.replace("http://SERVER:4200/api", prefect_api)
        .replace("tagmask:SECRET", "$PREFECT_API_AUTH_STRING")
        .replace("/srv/", f"{tmp_path}/"),
        tmp_path,
    )
    assert "in 'Unchanged'" in output


def shell(script: str, folder: Path) -> str:
    """What `script` prints when bash runs it in `folder`."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
    return done.stdout


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, default and description of each setting, as the docs put them; `train` has tables of its own."""
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from settings(type(value), f"{prefix}{name}.") if name != "train" else ()
        else:
            shown = str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value
            yield f"{prefix}{name}", "" if value in (None, ()) else str(shown), field.description or ""


def test_every_setting_is_listed_with_its_default():
    listed = re.findall(r"^\| `([a-z_.]+)` \| (.*?) \| (.*) \|$", TEXT.partition("\n## Settings")[2], re.MULTILINE)
    known = [*settings(FlowSettings), *settings(NotifySettings, "notify.")]
    assert [(name, default) for name, default, _ in listed] == [row[:2] for row in known]
    for (name, _, said), (*_, description) in zip(listed, known, strict=True):
        assert said.startswith(description), name
        assert said, name


def test_deployments_are_there():
    table = TEXT.partition("| deployment | runs in |\n")[2].partition("\n\n")[0]
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [each["name"] for each in deployments]
    assert set(re.findall(r"deploy --name (\S+)", TEXT)) <= {each["name"] for each in deployments}


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_examples_of_settings_are_valid(example: str, tmp_path: Path):
    file = tmp_path / "flows.toml"
    file.write_text(example, encoding="utf-8")
    assert (load_settings(file), load_notify(file)) != (FlowSettings(), NotifySettings())


def test_a_preset_lies_below_the_file(tmp_path: Path):
    file = tmp_path / "flows.toml"
    file.write_text("[train]\nlong_side = 99\n[trigger]\nnew_photos = 7\n", encoding="utf-8")
    settings = load_settings(file, preset="fast")
    assert settings.train == load_config(preset="fast", overrides={"long_side": 99})
    assert settings.trigger.new_photos == 7


def test_a_notification_has_the_fields_that_are_shown():
    shown = re.search(r"^\{\"flow\".*?\}$", TEXT, re.MULTILINE | re.DOTALL)
    assert shown
    assert re.findall(r"\"(\w+)\":", shown[0]) == list(Event.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('backbone = "resnet50"', "setting backbone: unknown; the closest are train.backbone,"),
        ("[gate]\nmiou_gian = 1", "setting gate.miou_gian: unknown; the closest are gate.miou_gain,"),
        ("gate = 1", "setting gate: must be a table of settings, got 1"),
    ],
)
def test_a_setting_that_is_refused_is_named(tmp_path: Path, text: str, fault: str):
    file = tmp_path / "flows.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}: {fault}')}"):
        load_settings(file)
