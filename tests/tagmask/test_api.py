"""Training and evaluation from Python, also in a project with modules of the same names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import tagmask
from tagmask import api
from tagmask.bundle import read_metadata
from tagmask.errors import ConfigError, DataError, RunError
from tests.tiny import TINY
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import draw_photos

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys
import training
assert training.MINE
import tagmask

stages = set()
settings = json.load(open("settings.json"))
progress = lambda event: stages.add(event.stage)
options = {"rounds": 1, "device": "cpu", "workers": 1, "tensorboard": "logs"}
run = tagmask.train("photos", "run", settings=settings, progress=progress, **options)
figures = tagmask.evaluate(run.model, "photos", device="cpu")
with tagmask.Segmenter.load(run.model) as segmenter:
    mask = segmenter.segment("photos/images/00.png", tags=["cat"]).mask
assert not {"torch", "training.config"} & set(sys.modules)
assert training.MINE
print(json.dumps([run.round, run.version, len(stages), figures.with_tags.photos, mask.shape, sorted(run.figures)]))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six photos as a CSV with masks: cats, dogs, and both."""
    root = draw_photos(tmp_path / "photos", 6).root
    (root / "photos").rename(root / "images")
    (root / "truth").rename(root / "masks")
    tags = [("cat", "dog", "cat dog")[index % 3] for index in range(6)]
    rows = [f"{index:02}.png,{tag}\n" for index, tag in enumerate(tags)]
    (root / "tags.csv").write_text("image,tags\n" + "".join(rows))
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    return root


def test_it_works_in_a_project_with_modules_of_the_same_names(data: Path, tmp_path: Path):
    for name in ("training", "flows", "service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    settings = TINY | {"backbone": "test_resnet"}  # other runs of tests are of an EfficientNet
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "program.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    kept, version, stages, photos, shape, figures = json.loads(run.stdout)
    assert (kept, photos, shape) == (1, 6, [64, 80])
    assert figures == ["agreement", "consistency", "coverage"]
    assert stages > 5
    assert version == read_metadata(tmp_path / "run" / "model.onnx").version
    assert len(list((tmp_path / "logs" / "run").glob("events.out.tfevents.*"))) == 1


def test_an_evaluation_has_both_figures(data: Path, tmp_path: Path):
    model = write_colour_bundle(tmp_path / "model.onnx")
    events: list[tagmask.StageProgress] = []
    result = tagmask.evaluate(model, data, classes=["cat"], progress=events.append)
    assert list(result.without_tags.iou) == ["background", "cat"]
    assert result.without_tags.miou is not None
    assert result.without_tags.miou > 95
    assert result.with_tags.photos == 4
    assert events[-1] == tagmask.StageProgress("segmenting", 4, 4)
    nothing = tagmask.evaluate(model, data, classes="cat", none="dog")
    assert nothing.with_tags.photos == 6
    assert nothing.with_tags.iou["background"] == 100


def test_errors_are_those_of_the_package(data: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        tagmask.train(tmp_path / "absent", tmp_path / "run")
    with pytest.raises(DataError, match="no photo is tagged 'good'"):
        tagmask.train(data, tmp_path / "run", none="good")
    with pytest.raises(DataError, match="mended: no corrections"):
        tagmask.train(data, tmp_path / "run", corrections=tmp_path / "mended")
    with pytest.raises(DataError, match="made: no hints"):
        tagmask.train(data, tmp_path / "run", hints=tmp_path / "made")
    with pytest.raises(ConfigError, match=r"setting pixelnet\.fit\.epoch: unknown"):
        tagmask.train(data, tmp_path / "run", settings={"pixelnet.fit.epoch": 3})
    with pytest.raises(RunError, match="holds other files"):
        tagmask.train(data, data)
    with pytest.raises(tagmask.BundleError, match="cannot be read"):
        tagmask.evaluate(tmp_path / "absent.onnx", data)


def test_an_exception_of_the_callback_ends_the_child(data: Path, tmp_path: Path):
    def stop(event: tagmask.StageProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tagmask.train(data, tmp_path / "run", device="cpu", progress=stop)
    assert not (tmp_path / "run" / "model.onnx").exists()
    assert not children()


def test_a_crash_is_told_with_its_last_lines(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path):
    monkeypatch.setattr(api.launch, "command", lambda module: [sys.executable, "-c", "import sys; sys.exit('no room')"])
    with pytest.raises(RunError, match=r"train: the process ended with status 1 \(no room\)"):
        tagmask.train(data, tmp_path / "run")
    monkeypatch.setattr(api.launch, "command", lambda module: [sys.executable, "-c", "import absent"])
    with pytest.raises(ConfigError, match=r"No module named 'absent'\); run pip install 'tagmask\[train\]'"):
        tagmask.evaluate(tmp_path / "model.onnx", data)


def test_the_child_ends_when_its_parent_is_killed(data: Path, tmp_path: Path):
    program = (
        "import sys, tagmask\n"
        "tagmask.train(sys.argv[1], sys.argv[2], device='cpu', progress=lambda event: print(event.stage, flush=True))\n"
    )
    command = [sys.executable, "-c", program, str(data), str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        child = children(parent.pid)
        assert child
        parent.kill()
    _, alive = psutil.wait_procs(child, timeout=30)
    assert not alive


def children(pid: int | None = None) -> list[psutil.Process]:
    """Processes of `training.api` that the process `pid`, or this one, has started."""
    return [child for child in psutil.Process(pid).children() if "training.api" in child.cmdline()]


SCRIPT = """
import tagmask

run = tagmask.train("photos/", out="run", rounds=3, progress=lambda event: print(event.stage, event.done))
scores = tagmask.evaluate(run.model, "val/").without_tags
with tagmask.Segmenter.load(run.model) as segmenter:
    mask = segmenter.segment("photo.jpg", tags=["dog"]).mask
with tagmask.Client("http://localhost:3000") as client:
    result = client.segment("photo.jpg", tags=["dog"])
reveal_type((run.model, run.round, run.figures, scores.miou, mask, result.present, tagmask.__version__))
"""


def test_types_are_known_to_mypy(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    config = ["--strict", "--config-file", os.devnull, "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *config, "script.py"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "Success" in checked.stdout, checked.stdout
    revealed = checked.stdout.splitlines()[0]
    assert "tuple[pathlib.Path, int, typing.Mapping[str, float], float | None, numpy.ndarray[" in revealed
    assert revealed.endswith('tuple[str, ...], str]"')
    assert revealed.count("Any") == 1, "the shape of an array, which NumPy's types leave open"


def test_importing_the_package_loads_no_library():
    libraries = {"cv2", "httpx", "numpy", "onnx", "onnxruntime", "pydantic", "torch"}
    code = f"import sys, tagmask; print(sorted({libraries} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def test_every_public_name_can_be_imported():
    assert all(getattr(tagmask, name) is not None for name in tagmask.__all__)
    assert sorted(tagmask.__all__) == list(tagmask.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nonesuch'"):
        tagmask.Nonesuch  # type: ignore[attr-defined]  # noqa: B018
