import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training.networks.trainer import Trainer, grow

from tagmask.errors import ConfigError, RunError
from tagmask.masks import BACKGROUND
from tests.tiny import TINY
from tests.training.conftest import draw_photos
from tests.training.fitting.test_balance import painted
from tests.training.run.test_train import Ran, run, shorten, weights_of
from training.config import load_config
from training.run.layout import Layout
from training.run.plan import one_round, preparation
from training.run.start import read_start
from training.run.train import train
from training.stages.localization import load_localizer

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory):
    patch = shorten()
    root = tmp_path_factory.mktemp("earlier")
    yield run(draw_photos(root, 9, (64, 48)), root / "run", load_config(overrides=TINY))
    patch.undo()


class Net(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Conv2d(4, outputs, 1)


@given(names, names)
def test_outputs_follow_their_names(known: list[str], learned: list[str]):
    before, after = Net(len(known)), Net(len(learned))
    drawn = {name: tensor.clone() for name, tensor in after.state_dict().items()}
    grow(after, before.state_dict(), "head", known, learned)
    assert torch.equal(after.body.weight, before.body.weight)
    for row, name in enumerate(learned):
        for part in ("weight", "bias"):
            expected = getattr(before.head, part)[known.index(name)] if name in known else drawn[f"head.{part}"][row]
            assert torch.equal(getattr(after.head, part)[row], expected)


def test_a_run_goes_on_from_an_earlier_one_and_learns_a_class_more(earlier: Ran, tmp_path: Path):
    tagged = draw_photos(tmp_path, 9, (64, 48))
    more = tagged.__class__(
        tagged.root,
        ("cat", "cow", "dog"),
        tuple(photo.__class__(photo.id, photo.path, ("cow",)) if i % 3 == 0 else photo
              for i, photo in enumerate(tagged.photos)),
    )  # fmt: skip
    still = load_config(overrides=TINY | {"rounds": 1, "classifier.fit.learning_rate": 1e-12,
                                          "regionnet.fit.learning_rate": 1e-12,
                                          "pixelnet.fit.learning_rate": 1e-12})  # fmt: skip
    outcome = train(more, tmp_path / "run", still, device="cpu", start=earlier.layout.root)
    assert outcome.kept == 1
    old, new = read_start(earlier.layout), read_start(Layout(tmp_path / "run"))
    files = ((0, "localizer", "maps", 0), (1, "regionnet", "layers.4", 1), (1, "localizer", "labels", 1))
    for number, name, head, labels in files:
        kept = old.kept if name == "localizer" and number else number
        before = torch.load(getattr(old.layout.round(kept), name), weights_only=True)
        after = torch.load(getattr(new.layout.round(number), name), weights_only=True)
        known = [BACKGROUND, *old.classes][1 - labels :]
        learned = [BACKGROUND, *new.classes][1 - labels :]
        for row, label in enumerate(learned):
            if label in known:
                close = after[f"{head}.weight"][row], before[f"{head}.weight"][known.index(label)]
                assert torch.allclose(*close, atol=1e-6), (name, label)
        assert after[f"{head}.weight"].shape[0] == len(learned) == len(known) + 1


@pytest.mark.parametrize(("classes", "chosen"), [(("cat", "dog"), "later_fit"), (("cat", "cow", "dog"), "fit")])
def test_pixelnet_learns_a_new_class_as_long_as_a_first_time(earlier: Ran, classes: tuple[str, ...], chosen: str):
    config, start = earlier.config, read_start(earlier.layout)
    (pixelnet,) = (step for step in one_round(config, 1) if step.stage == "pixelnet")
    tagged = replace(earlier.data, classes=classes)
    trainer = Trainer(tagged, earlier.layout, config, "random", torch.device("cpu"), start)
    assert trainer.fit_config(pixelnet) == getattr(config.pixelnet, chosen)
    assert config.pixelnet.fit != config.pixelnet.later_fit


def test_the_start_belongs_to_the_run(earlier: Ran, tmp_path: Path):
    settings = {"device": "cpu", "start": earlier.layout.root}
    first = train(earlier.data, tmp_path / "run", earlier.config, **settings)
    assert weights_of(Layout(tmp_path / "run")) != weights_of(earlier.layout)
    again = train(earlier.data, tmp_path / "run", earlier.config, resume=True, **settings)
    assert again.weights_digest == first.weights_digest
    with pytest.raises(RunError, match="the run that it starts from changed"):
        train(earlier.data, tmp_path / "run", earlier.config, resume=True, device="cpu")


def test_a_start_that_cannot_be_used_is_told_before_anything_is_written(earlier: Ran, tmp_path: Path):
    other = load_config(overrides=TINY | {"pixelnet.width": 16})
    with pytest.raises(ConfigError, match=r"its pixelnet\.width is 8, this run's is 16"):
        train(earlier.data, tmp_path / "run", other, device="cpu", start=earlier.layout.root)
    with pytest.raises(RunError, match=r"run\.json: cannot be read"):
        train(earlier.data, tmp_path / "run", earlier.config, device="cpu", start=tmp_path)
    assert not (tmp_path / "run").exists()


def test_what_a_training_shows_is_known_before(earlier: Ran, tmp_path: Path):
    config = load_config(overrides=TINY | {"classifier.fit.tag_photos": 2})
    trainer = Trainer(earlier.data, Layout(tmp_path), config, "random", torch.device("cpu"))
    classifier, done = preparation(config)[2], list[int]()
    trainer.train(classifier, done.append)
    assert sum(done) == trainer.photos_shown(classifier) < config.classifier.fit.epochs * len(earlier.data.photos)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_pixelnet_paints_as_much_as_the_one_before(
    earlier: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
):
    monkeypatch.setattr("training.fitting.balance.LIMIT", 100)  # these networks have hardly learned
    layout, config = Layout(tmp_path / "run"), earlier.config
    shutil.copytree(earlier.layout.root, layout.root)
    layout.round(2).localizer.unlink()
    for photo in earlier.data.photos:
        maps = np.load(path := layout.round(1).maps(photo.id))
        maps[:] = 0
        maps[1, : round(share * maps.shape[1])] = 1
        np.save(path, maps)
    (pixelnet,) = (step for step in one_round(config, 2) if step.stage == "pixelnet")
    Trainer(earlier.data, layout, config, "random", torch.device("cpu")).train(pixelnet)
    network = load_localizer(layout, 2, len(earlier.data.classes), config)
    assert painted(network, earlier.data, config.pixelnet.maps, config.long_side) == pytest.approx(share, abs=0.05)
