import hashlib
from pathlib import Path

import numpy as np
import pytest

from examples.demo.drawing import DEMO_CLASSES, make_demo_photos
from examples.demo.drawing.picture import draw
from examples.demo.drawing.things import THINGS
from tagmask.errors import ConfigError, DataError
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from training.datasets import load


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo_photos(folder, photos=32, size=64)
    return folder


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_reads_as_a_tagged_data_set(root: Path):
    data = load(root)
    assert data.classes == DEMO_CLASSES
    assert data.mask_classes == ("background", *DEMO_CLASSES)
    assert data.faults == ()
    assert {len(photo.tags) for photo in data.photos} == {1, 2}
    splits = [load(root, split=split) for split in ("train", "val")]
    assert [len(split.photos) for split in splits] == [24, 8]
    assert [split.classes for split in splits] == [DEMO_CLASSES, DEMO_CLASSES]


def test_tags_are_what_the_masks_hold(root: Path):
    for photo in load(root).photos:
        assert photo.mask is not None
        mask = read_mask(photo.mask)
        assert mask.shape == read_photo(photo.path).shape[:2] == (64, 64)
        shown = sorted(set(np.unique(mask).tolist()) - {0})
        assert tuple(DEMO_CLASSES[value - 1] for value in shown) == photo.tags
        assert 0.01 < np.mean(mask > 0) < 0.5


def test_the_seed_alone_decides(root: Path, tmp_path: Path):
    make_demo_photos(tmp_path / "again", photos=32, size=64)
    make_demo_photos(tmp_path / "other", photos=32, size=64, seed=1)
    again, other, first = digests(tmp_path / "again"), digests(tmp_path / "other"), digests(root)
    assert again == first
    assert not {first[name] for name in first if "images" in name} & set(other.values())


def test_a_stopped_set_goes_on(root: Path, tmp_path: Path):
    def stop(count: int) -> None:
        seen.append(count)
        if len(seen) == 5:
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        make_demo_photos(tmp_path, photos=32, size=64, advance=stop)
    (tmp_path / "masks" / "0002.png").unlink()
    assert make_demo_photos(tmp_path, photos=32, size=64) == 32 - 4
    assert digests(tmp_path) == digests(root)
    assert make_demo_photos(tmp_path, photos=32, size=64) == 0


def test_other_settings_replace_the_set(tmp_path: Path):
    make_demo_photos(tmp_path, photos=20, size=64)
    assert make_demo_photos(tmp_path, photos=16, size=48) == 16
    assert {read_photo(path).shape for path in (tmp_path / "images").iterdir()} == {(48, 48, 3)}
    assert len(load(tmp_path).photos) == len(list((tmp_path / "masks").iterdir())) == 16


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="other than a demo data set"):
        make_demo_photos(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("setting", "value"), [("photos", 15), ("size", 47)])
def test_too_small_is_refused_by_name(tmp_path: Path, setting: str, value: int):
    with pytest.raises(ConfigError, match=f"{setting}: {value} is below {value + 1}"):
        make_demo_photos(tmp_path / "new", **{setting: value})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", THINGS)
def test_an_object_fills_its_share_of_the_frame_in_several_colours(name: str):
    for seed in range(4):
        photo, mask = draw((name,), 96, np.random.default_rng(seed))
        ys, xs = np.nonzero(mask)
        assert 0.25 < max(np.ptp(ys), np.ptp(xs)) / 96 < 0.65
        assert photo[mask == 1].std(axis=0).max() > 10


def test_colour_does_not_tell_the_class():
    """Mean colours of one class spread wider than the classes' own means differ."""
    means = np.array([[_mean_colour(name, seed) for seed in range(24)] for name in THINGS])  # (class, photo, RGB)
    assert means.mean(axis=1).std(axis=0).max() < means.std(axis=1).min()


def _mean_colour(name: str, seed: int) -> np.ndarray:
    photo, mask = draw((name,), 48, np.random.default_rng(seed))
    return np.asarray(photo[mask == 1].mean(axis=0))
