import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.errors import ConfigError, RunError
from tagmask.masks import BACKGROUND
from tests.tiny import TINY
from tests.training.conftest import draw_photos
from tests.training.fitting.test_balance import painted
from tests.training.run.test_train import Ran, run, shorten, weights_of
from training.config import load_config
from training.networks.pixelnet import PixelNet
from training.run.layout import Layout
from training.run.plan import find_stage
from training.run.start import read_start
from training.run.train import train
from training.stages.classifier import ClassifierTraining
from training.stages.localization import maps_file
from training.stages.network import NetworkStage, TrainingContext
from training.stages.pixelnet import PixelNetTraining
from training.stages.regionnet import RegionNetTraining

RESNET = TINY | {"backbone": "test_resnet"}  # an EfficientNet that hardly learned cannot be balanced


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory):
    patch = shorten()
    root = tmp_path_factory.mktemp("earlier")
    yield run(draw_photos(root, 9, (64, 48)), root / "run", load_config(overrides=RESNET))
    patch.undo()


def test_a_run_goes_on_from_an_earlier_one_and_learns_a_class_more(earlier: Ran, tmp_path: Path):
    tagged = draw_photos(tmp_path, 9, (64, 48))
    more = tagged.__class__(
        tagged.root,
        ("cat", "cow", "dog"),
        tuple(photo.__class__(photo.id, photo.path, ("cow",)) if i % 3 == 0 else photo
              for i, photo in enumerate(tagged.photos)),
    )  # fmt: skip
    still = load_config(overrides=RESNET | {"rounds": 1, "classifier.fit.learning_rate": 1e-12,
                                          "regionnet.fit.learning_rate": 1e-12,
                                          "pixelnet.fit.learning_rate": 1e-12})  # fmt: skip
    result = train(more, tmp_path / "run", still, device="cpu", start=earlier.layout.root)
    assert result.kept == 1
    old, new = read_start(earlier.layout), read_start(Layout(tmp_path / "run"))
    files = (
        (ClassifierTraining.weights_of(old.root), ClassifierTraining.weights_of(new.root), "maps", 0),
        (RegionNetTraining.weights_of(old.root, 1), RegionNetTraining.weights_of(new.root, 1), "layers.4", 1),
        (PixelNetTraining.weights_of(old.root, old.kept), PixelNetTraining.weights_of(new.root, 1), "labels", 1),
    )
    for former, latter, head, labels in files:
        before, after = torch.load(former, weights_only=True), torch.load(latter, weights_only=True)
        known = [BACKGROUND, *old.classes][1 - labels :]
        learned = [BACKGROUND, *new.classes][1 - labels :]
        for row, label in enumerate(learned):
            if label in known:
                close = after[f"{head}.weight"][row], before[f"{head}.weight"][known.index(label)]
                assert torch.allclose(*close, atol=1e-6), (head, label)
        assert after[f"{head}.weight"].shape[0] == len(learned) == len(known) + 1


@pytest.mark.parametrize(("classes", "chosen"), [(("cat", "dog"), "later_fit"), (("cat", "cow", "dog"), "fit")])
def test_pixelnet_learns_a_new_class_as_long_as_a_first_time(earlier: Ran, classes: tuple[str, ...], chosen: str):
    config, start = earlier.config, read_start(earlier.layout)
    data = replace(earlier.data, classes=classes)
    assert PixelNetTraining.of(config, 1).schedule(data, start) == getattr(config.pixelnet, chosen)
    assert config.pixelnet.fit != config.pixelnet.later_fit


def test_the_start_belongs_to_the_run(earlier: Ran, tmp_path: Path):
    settings = {"device": "cpu", "start": earlier.layout.root}
    first = train(earlier.data, tmp_path / "run", earlier.config, **settings)
    assert weights_of(Layout(tmp_path / "run")) != weights_of(earlier.layout)
    again = train(earlier.data, tmp_path / "run", earlier.config, resume=True, **settings)
    assert again.weights_digest == first.weights_digest
    with pytest.raises(RunError, match="the run to start from changed"):
        train(earlier.data, tmp_path / "run", earlier.config, resume=True, device="cpu")


def test_a_start_that_cannot_be_used_is_told_before_anything_is_written(earlier: Ran, tmp_path: Path):
    other = load_config(overrides=RESNET | {"pixelnet.width": 16})
    with pytest.raises(ConfigError, match=r"its pixelnet\.width is 8, this run's is 16"):
        train(earlier.data, tmp_path / "run", other, device="cpu", start=earlier.layout.root)
    with pytest.raises(RunError, match="not a run, as it has no run"):
        train(earlier.data, tmp_path / "run", earlier.config, device="cpu", start=tmp_path)
    assert not (tmp_path / "run").exists()


def test_what_a_training_shows_is_known_before(earlier: Ran, tmp_path: Path):
    config = load_config(overrides=RESNET | {"classifier.fit.tag_photos": 2})
    classifier, done = find_stage(config, 0, "classifier"), list[int]()
    assert isinstance(classifier, NetworkStage)
    classifier.train(TrainingContext(earlier.data, tmp_path, "cpu"), done.append)
    assert (
        sum(done)
        == classifier.photos_shown(earlier.data, None)
        < config.classifier.fit.epochs * len(earlier.data.photos)
    )


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_pixelnet_paints_as_much_as_the_one_before(
    earlier: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
):
    monkeypatch.setattr("training.fitting.balance.LIMIT", 100)  # these networks have hardly learned
    run, config = tmp_path / "run", earlier.config
    shutil.copytree(earlier.layout.root, run)
    PixelNetTraining.weights_of(run, 2).unlink()
    for photo in earlier.data.photos:
        maps = np.load(path := maps_file(photo, run, 1))
        maps[:] = 0
        maps[1, : round(share * maps.shape[1])] = 1
        np.save(path, maps)
    stage = PixelNetTraining.of(config, 2)
    alone = replace(stage, settings=stage.settings.model_copy(update={"least": 0.0}))  # background alone is moved
    alone.train(TrainingContext(earlier.data, run, "cpu"))
    network = PixelNet.load(PixelNetTraining.weights_of(run, 2), config.backbone)
    assert painted(network, earlier.data, config.long_side)[0] == pytest.approx(1 - share, abs=0.05)


@pytest.mark.parametrize(("photos", "batch", "same"), [(3, 1, True), (1, 3, True), (3, 3, False)])
def test_crops_that_are_alone_in_their_step_are_trained_as_if_nothing_could_be_pasted(
    earlier: Ran, tmp_path: Path, photos: int, batch: int, same: bool
):
    data = replace(earlier.data, photos=earlier.data.photos[:photos])
    networks = []
    for pasted in (0.0, 1.0):
        run = shutil.copytree(earlier.layout.root, tmp_path / str(pasted))
        PixelNetTraining.weights_of(run, 1).unlink()
        settings = {"pixelnet.fit.batch": batch, "pixelnet.pasted": pasted}
        stage = PixelNetTraining.of(load_config(overrides=RESNET | settings), 1)
        stage.train(TrainingContext(data, run, "cpu"))
        networks.append(torch.load(PixelNetTraining.weights_of(run, 1), weights_only=True))
    assert same == all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("weights", "frozen"), [(None, True), ("random", False)])
def test_pixelnet_keeps_pretrained_shallow_layers(
    earlier: Ran, monkeypatch: pytest.MonkeyPatch, number: int, weights: str | None, frozen: bool
):
    begun: list[PixelNet] = []
    monkeypatch.setattr(PixelNetTraining, "fit", lambda stage, context, network, *_, **__: begun.append(network))
    stage = replace(PixelNetTraining.of(earlier.config, number), weights=weights)
    stage.train(TrainingContext(earlier.data, earlier.layout.root, "cpu"))
    first, *_, last = begun[0].backbone.network.named_parameters()
    assert first[1].requires_grad is not frozen, first[0]
    assert last[1].requires_grad is not frozen or "bn" not in last[0], last[0]
