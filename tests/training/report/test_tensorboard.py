"""What TensorBoard itself reads of a run."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tagmask.errors import ConfigError
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.report.tensorboard import TensorBoard
from training.run.layout import Layout
from training.stages import superpixels

NETWORK = {"round": 1, "stage": "pixelnet", "photos": 8, "seconds": 12.5, "losses": [1.5, 0.75]}
DECISION = {
    "round": 1, "stage": "decision", "photos": 4, "seconds": 1.0, "consistency": 0.9, "kept": True, "why": "",
    "painted": {"cat": 0.5}, "estimate": {"miou": 61.0, "error": 7, "iou": {"background": 80.0, "cat": 42.0}},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> tuple[Layout, TaggedPhotos]:
    """A run that has cut its only photo into superpixels."""
    Image.fromarray(np.full((40, 60, 3), 90, dtype=np.uint8)).save(tmp_path / "a.png")
    photo = Photo("a", tmp_path / "a.png", ("cat",))
    layout = Layout(tmp_path / "run")
    superpixels.write(superpixels.Superpixels.file_of(photo, layout.root), np.arange(2400).reshape(40, 60) // 600)
    return layout, TaggedPhotos(tmp_path, ("cat",), (photo,))


def write(folder: Path, run: tuple[Layout, TaggedPhotos], *lines: dict[str, object]) -> EventAccumulator:
    with TensorBoard(folder, *run, TrainConfig()) as events:
        for line in lines:
            events.add(line)
    read = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    read.Reload()
    return read


def series(read: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(each.step, round(each.value, 4)) for each in read.Scalars(tag)]


def test_figures_are_scalars(tmp_path: Path, run) -> None:
    read = write(tmp_path / "events", run, NETWORK, DECISION)
    assert series(read, "loss/round-1-pixelnet") == [(1, 1.5), (2, 0.75)]
    assert series(read, "pixelnet/seconds") == [(1, 12.5)]
    assert series(read, "decision/consistency") == [(1, 0.9)]
    assert (series(read, "estimate/mIoU"), series(read, "estimate/cat")) == ([(1, 61.0)], [(1, 42.0)])
    assert series(read, "painted/cat") == [(1, 0.5)]
    assert not {"decision/kept", "decision/round", "decision/photos"} & set(read.Tags()["scalars"])


def test_photos_are_pictures_after_each_round(tmp_path: Path, run) -> None:
    read = write(tmp_path / "events", run, NETWORK, DECISION)
    (event,) = read.Images("photos/a")
    assert event.step == 1
    picture = np.array(Image.open(io.BytesIO(event.encoded_image_string)))
    assert picture.shape == (event.height, event.width, 3) == (40, 2 * 60 + 4, 3)  # the photo, and its superpixels
    np.testing.assert_array_equal(picture[:, :60], 90)


def test_settings_are_a_text(tmp_path: Path, run) -> None:
    read = write(tmp_path / "events", run)
    (event,) = read.Tensors("settings")
    assert b'"rounds": 3' in event.tensor_proto.string_val[0]


def test_a_resumed_run_is_written_anew(tmp_path: Path, run) -> None:
    write(tmp_path / "events", run, NETWORK)
    (tmp_path / "events" / "notes.txt").write_text("mine")
    read = write(tmp_path / "events", run, NETWORK, DECISION)
    assert series(read, "loss/round-1-pixelnet") == [(1, 1.5), (2, 0.75)]
    assert len(list((tmp_path / "events").glob("events.out.*"))) == 1
    assert (tmp_path / "events" / "notes.txt").read_text() == "mine"


def test_without_the_library_the_extra_is_named(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(ConfigError, match=r"pip install 'tagmask\[tensorboard\]'"):
        TensorBoard(tmp_path, *run, TrainConfig())


def test_flows_need_no_torch_for_it() -> None:
    code = "import sys, training.report.tensorboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
