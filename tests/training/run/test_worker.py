import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import RunError
from tagmask.metadata import Metadata
from tests.tiny import TINY
from tests.training.conftest import draw_photos
from tests.training.run.test_train import Ran, run, shorten, weights_of
from training.config import load_config
from training.datasets import load
from training.networks.export import weights_digest
from training.networks.taghead import ServedNetwork
from training.run.description import RunReference
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import find_stage
from training.run.together import train_together
from training.run.worker import device_type, each_photo, export_bundle, open_run, train_network
from training.stages.base import PhotoStage
from training.stages.classifier import ClassifierTraining
from training.stages.localization import features_file, maps_file
from training.stages.network import NetworkStage
from training.stages.pixelnet import PixelNetTraining
from training.stages.regionnet import RegionNetTraining
from training.stages.regions import Regions


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A finished run on a list of photos."""
    patch = shorten()
    root = tmp_path_factory.mktemp("worker")
    drawn = draw_photos(root, 9, (64, 48))
    lines = (json.dumps({"image": f"photos/{photo.path.name}", "tags": photo.tags}) for photo in drawn.photos)
    (root / "tags.jsonl").write_text("\n".join(lines))
    yield run(load(root / "tags.jsonl"), root / "run", load_config(overrides=TINY))
    patch.undo()


def network_stage(ran: Ran, number: int, name: str) -> NetworkStage:
    stage = find_stage(ran.config, number, name)
    assert isinstance(stage, NetworkStage)
    return stage


@pytest.fixture
def reference(ran: Ran, tmp_path: Path) -> RunReference:
    """A copy of the run whose stages can be run singly."""
    copy = ran.copy(tmp_path / "run")
    return RunReference(copy.layout.root, ran.data.root / "tags.jsonl", device="cpu")


def test_single_trainings_give_what_the_run_gave(ran: Ran, reference: RunReference):
    expected, layout = weights_of(ran.layout), Layout(reference.run)
    files = (
        ClassifierTraining.weights_of(reference.run),
        RegionNetTraining.weights_of(reference.run, 1),
        PixelNetTraining.weights_of(reference.run, 2),
    )
    for name, file in zip(((0, "classifier"), (1, "regionnet"), (2, "pixelnet")), files, strict=True):
        file.unlink()
        seen: list[int] = []
        figures = train_network(reference, network_stage(ran, *name), advance=seen.append)
        line = Ledger(layout.ledger).find(*name)
        assert line is not None
        assert figures["photos"] == line["photos"]
        assert sum(seen) == line["photos"] + network_stage(ran, *name).photos_after(ran.data)
        assert figures["losses"] == tuple(line["losses"])
    assert weights_of(layout) == expected


def test_single_photo_stages_give_what_the_run_gave(ran: Ran, reference: RunReference):
    run, photo = reference.run, ran.data.photos[3]
    for name, file in (((1, "regions"), Regions.file_of(photo, run, 1)), ((2, "masks"), maps_file(photo, run, 2))):
        before = np.load(file)
        file.unlink()
        if name[1] == "masks":
            features_file(photo, run, 2).unlink()
        stage = find_stage(ran.config, *name)
        assert isinstance(stage, PhotoStage)
        each_photo(reference, stage)
        np.testing.assert_array_equal(np.load(file), before)


def test_the_bundle_is_that_of_the_round(ran: Ran, reference: RunReference, monkeypatch: pytest.MonkeyPatch):
    exported: list[tuple[str, Metadata]] = []

    def keep(network: ServedNetwork, path: Path, metadata: Metadata, **settings: object) -> None:
        assert path == Layout(reference.run).model
        exported.append((weights_digest(network.pixelnet.state_dict()), metadata))

    monkeypatch.setattr("training.run.train.export", keep)
    figures = export_bundle(reference, 1, "fp32")
    ((pixelnet, metadata),) = exported
    assert (metadata.rounds, figures) == (1, {"weights_digest": metadata.weights_digest})
    assert pixelnet == weights_of(ran.layout)["round-1/pixelnet/weights.pt"]


def test_several_processes_train_a_network(ran: Ran, reference: RunReference):
    file = PixelNetTraining.weights_of(reference.run, 1)
    file.unlink()
    stage, done = network_stage(ran, 1, "pixelnet"), list[int]()
    figures = train_together(reference, stage, 2, advance=done.append)
    assert sum(done) >= stage.photos_shown(ran.data, None)
    assert len(figures["losses"]) == ran.config.pixelnet.fit.epochs
    assert all(np.isfinite(figures["losses"]))
    assert file.is_file()


def test_processes_that_fail_say_why(reference: RunReference, ran: Ran):
    stage = network_stage(ran, 1, "pixelnet")
    with pytest.raises(RunError, match=r"pixelnet: 1 processes could not train it: .*none\.jsonl: no such folder"):
        train_together(replace(reference, photos=reference.photos.with_name("none.jsonl")), stage, 1)


def test_the_device_is_told(reference: RunReference):
    assert device_type("cpu") == "cpu"
    assert open_run(reference) is open_run(reference)
