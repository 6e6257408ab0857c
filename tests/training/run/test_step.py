import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import RunError
from tagmask.segmenter import Segmenter
from tests.tiny import TINY
from tests.training.conftest import draw_photos
from tests.training.run.test_train import Ran, run, shorten, weights_of
from training.config import load_config
from training.datasets import load
from training.networks.export import export
from training.run.description import Apart
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import steps
from training.run.step import device_type, each_photo, export_bundle, open_trainer, train_network, train_together


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A finished run on a list of photos."""
    patch = shorten()
    root = tmp_path_factory.mktemp("step")
    drawn = draw_photos(root, 9, (64, 48))
    lines = (json.dumps({"image": f"photos/{photo.path.name}", "tags": photo.tags}) for photo in drawn.photos)
    (root / "tags.jsonl").write_text("\n".join(lines))
    yield run(load(root / "tags.jsonl"), root / "run", load_config(overrides=TINY))
    patch.undo()


@pytest.fixture
def apart(ran: Ran, tmp_path: Path) -> Apart:
    """A copy of the run whose steps can be run apart."""
    copy = ran.copy(tmp_path / "run")
    return Apart(copy.layout.root, ran.data.root / "tags.jsonl", device="cpu")


def test_steps_apart_give_what_the_run_gave(ran: Ran, apart: Apart):
    expected, layout = weights_of(ran.layout), Layout(apart.run)
    files = (layout.round(0).localizer, layout.round(1).regionnet, layout.round(2).localizer)
    for name, file in zip(((0, "classifier"), (1, "regionnet"), (2, "pixelnet")), files, strict=True):
        file.unlink()
        seen: list[int] = []
        told = train_network(apart, name, advance=seen.append)
        line = Ledger(layout.ledger).find(*name)
        assert line is not None
        assert told["photos"] == sum(seen) == line["photos"]
        assert told["losses"] == tuple(line["losses"])
    assert weights_of(layout) == expected


def test_photos_apart_give_what_the_run_gave(ran: Ran, apart: Apart):
    layout, photo = Layout(apart.run), ran.data.photos[3].id
    for name, file in (((1, "regions"), layout.round(1).regions(photo)), ((2, "masks"), layout.round(2).maps(photo))):
        before = np.load(file)
        file.unlink()
        if name[1] == "masks":
            layout.round(2).features(photo).unlink()
        each_photo(apart, name)
        np.testing.assert_array_equal(np.load(file), before)


def test_the_bundle_apart_is_that_of_the_round(ran: Ran, apart: Apart, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.networks.export", export)
    digest = export_bundle(apart, 1, "fp32")
    assert digest == weights_of(ran.layout)["round-1/localizer/weights.pt"]
    assert Segmenter.load(Layout(apart.run).model).metadata.weights_digest == digest


def test_several_processes_train_a_network(ran: Ran, apart: Apart):
    layout = Layout(apart.run)
    step = next(step for step in steps(ran.config) if step.name == (1, "pixelnet"))
    layout.round(1).localizer.unlink()
    told = train_together(apart, step, 2)
    assert len(told["losses"]) == ran.config.pixelnet.fit.epochs
    assert all(np.isfinite(told["losses"]))
    assert layout.round(1).localizer.is_file()


def test_processes_that_fail_say_why(apart: Apart, ran: Ran):
    step = next(step for step in steps(ran.config) if step.name == (1, "pixelnet"))
    with pytest.raises(RunError, match=r"pixelnet: 2 processes could not train it: .*none\.jsonl: no such folder"):
        train_together(replace(apart, photos=apart.photos.with_name("none.jsonl")), step, 2)


def test_the_device_is_told(apart: Apart):
    assert device_type("cpu") == "cpu"
    assert open_trainer(apart) is open_trainer(apart)
