"""The loop on tiny photos, with the service and Prefect as they are."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from examples.demo import loop, service
from examples.demo.drawing import make_demo_photos
from examples.demo.loop import NEW_CLASS, Demo, data_of, demo_settings, learn_new_class, train_first_model
from examples.demo.service import LightLoad, RunningService
from flows.settings import DataSettings, FlowSettings, GateSettings, TaskSettings
from tagmask.errors import RunError
from tests import ceph
from tests.tiny import TINY
from training.config import load_config
from training.datasets import load

ANYTHING = GateSettings(
    min_coverage=0, miou_gain=-100, class_loss=100, latency_factor=100, size_factor=100, vanished_classes=True
)


def tiny_demo(root: Path, storage: str | None = None) -> Demo:
    make_demo_photos(root / "data", photos=40, size=64)
    settings = FlowSettings(
        train=load_config(overrides=TINY | {"rounds": 1}),
        tasks=TaskSettings(runner="inline"),
        data=DataSettings(min_photos=5, masks=data_of(root, storage), masks_split="val"),
        gate=ANYTHING,
    )
    return Demo(root, settings, storage)


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return tiny_demo(tmp_path)


@pytest.mark.usefixtures("prefect_api", "one_process")
def test_a_class_arrives_while_its_model_is_served(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(loop, "LightLoad", partial(LightLoad, pause=1))
    train_first_model(demo)
    before, classes = demo.champion()
    assert classes == ("balloon", "butterfly", "mushroom")
    assert demo.model.read_bytes() == demo.store.path(before).read_bytes()
    assert list(demo.stages.glob("*.png"))

    load = learn_new_class(demo)
    after, classes = demo.champion()
    assert classes == ("balloon", "butterfly", NEW_CLASS, "mushroom")
    assert load.failures == []
    assert [version for _, version in load.changes] == [before, after]
    assert min(load.responses[version] for version in (before, after)) >= 5
    assert demo.store.versions() == (before, after)
    output = capsys.readouterr().out
    assert f"serves version {after}" in output
    for name in ("before.png", "after.png"):
        Image.open(demo.pictures / name).verify()

    assert demo.model.read_bytes() == demo.store.path(after).read_bytes()
    assert list(learn_new_class(demo).responses) == [after], "it has ended, and is only shown again"
    shutil.rmtree(demo.workspace.runs)  # which docs/flows.md allows
    train_first_model(demo)
    assert demo.champion()[0] == after


@pytest.mark.usefixtures("prefect_api", "one_process", "s3")
def test_data_inbox_and_store_are_in_object_storage(tmp_path: Path):
    storage = f"s3://{ceph.BUCKET}/demo"
    demo = tiny_demo(tmp_path, storage)
    train_first_model(demo)
    version, classes = demo.champion()
    assert NEW_CLASS not in classes
    assert demo.store.root == f"{storage}/store"
    assert demo.model.read_bytes() == demo.store.path(version).read_bytes()
    assert not (demo.workspace.root / "store").exists()
    (photo, *_) = demo.photos("train", new=True)
    with RunningService(demo.workspace.store, demo.inbox, demo.pictures / "service.log") as service:
        service.send(photo.path, photo.tags)
        assert service.segment(photo.path).version == version
    (sent,) = load(demo.inbox).photos
    assert (sent.path.read_bytes(), sent.tags) == (photo.path.read_bytes(), photo.tags)
    assert not (tmp_path / "inbox").exists()


def test_the_workspace_of_another_store_is_refused(demo: Demo):
    demo.workspace.last.parent.mkdir()
    demo.workspace.last.touch()
    with pytest.raises(RunError, match=rf"has a training, but .*store no champion; remove {demo.root} to start over"):
        train_first_model(demo)


def test_a_service_that_cannot_start_says_why(tmp_path: Path):
    absent = tmp_path / "absent"
    with (
        pytest.raises(RunError, match=r"ended with status 1; (.|\n)*no such folder"),
        RunningService(absent, tmp_path / "inbox", tmp_path / "log"),
    ):
        pass


def test_a_service_that_only_is_slow_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "START_S", 0)
    with (
        pytest.raises(RunError, match="did not answer within 0 s; try again when this machine has less to do"),
        RunningService(tmp_path, tmp_path / "inbox", tmp_path / "log"),
    ):
        pass


def test_the_demo_s_settings_are_those_of_its_photos():
    settings = demo_settings(Path("data"))
    assert settings.train.long_side == 192
    assert settings.data.masks == Path("data").absolute()
