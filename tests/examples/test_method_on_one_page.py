"""The method on one page: it goes through all stages, and its stages without networks are those of a run."""

from pathlib import Path

import pytest
from PIL import Image

from examples import method_on_one_page as page
from examples.demo.drawing import make_demo_photos
from tests.tiny import TINY
from training.config import load_config
from training.datasets import load
from training.stages import BEFORE_ROUNDS, EACH_ROUND


@pytest.fixture
def run(tmp_path: Path) -> page.Run:
    make_demo_photos(tmp_path / "photos", photos=16, size=64)
    return page.Run(load(tmp_path / "photos", split="train"), load_config(overrides=TINY), tmp_path)


def test_it_goes_through_all_stages(run: page.Run, capsys: pytest.CaptureFixture[str]) -> None:
    network = page.run_method(run)
    assert network.labels.out_channels == len(run.data.classes) + 1
    for number, line in enumerate(capsys.readouterr().out.splitlines(), 1):
        assert line.startswith(f"round {number}: masks of 12 training photos, mIoU ")
        with Image.open(run.folder / f"round-{number}.png") as picture:
            assert picture.size == (5 * 64, 8 * 64)
    assert number == 2


def test_it_names_every_stage() -> None:
    named = {(each.__doc__ or "").partition(":")[0] for each in vars(page).values() if callable(each)}
    assert {stage.name for stage in (*BEFORE_ROUNDS, *EACH_ROUND)} - {"decision"} <= named
