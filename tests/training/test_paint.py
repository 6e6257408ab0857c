from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training.paint import label, segment_files
from training.predict import Predictor

from tagmask.errors import DataError
from tagmask.masks import PALETTE, read_mask
from tests.training.colour_bundle import COLOURS, write_colour_bundle
from training.datasets.photos import Photo, TaggedPhotos


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    path = write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")
    return Predictor.load(path, device="cpu", threads=1)


def save(path: Path, *names: str) -> Path:
    """A photo of 40-pixel stripes in the colours of `names`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = [np.full((40, 40, 3), COLOURS[name], dtype=np.uint8) for name in names]
    Image.fromarray(np.concatenate(stripes, axis=1)).save(path)
    return path


def tagged(root: Path, **tags: tuple[str, ...]) -> TaggedPhotos:
    """Photos of a green, a red and a blue stripe."""
    every = ("background", "cat", "dog")
    photos = tuple(Photo(f"some/{name}", save(root / f"{name}.png", *every), its) for name, its in tags.items())
    return TaggedPhotos(root, tuple(sorted({tag for its in tags.values() for tag in its})), photos)


def values(path: Path) -> set[int]:
    return set(np.unique(read_mask(path)).tolist())


def test_a_data_set_is_labelled_within_its_tags(predictor: Predictor, tmp_path: Path):
    out, told = tmp_path / "out", list[int]()
    done = label(predictor, tagged(tmp_path, a=("cat",), b=("dog",), c=("cat", "dog")), out, advance=told.append)
    assert (done.written, done.kept, done.faults, told) == (3, 0, (), [1, 1, 1])
    assert [values(out / "some" / f"{name}.png") for name in "abc"] == [{0, 1}, {0, 2}, {0, 1, 2}]
    assert (out / "classes.txt").read_text().split() == ["background", "cat", "dog"]
    with Image.open(out / "some" / "a.png") as mask:
        assert mask.mode == "P"
        assert mask.convert("RGB").getpixel((60, 10)) == PALETTE[1]


def test_labelling_goes_on_where_it_stopped(predictor: Predictor, tmp_path: Path):
    data, out = tagged(tmp_path, a=("cat",), b=("dog",)), tmp_path / "out"
    label(predictor, replace(data, photos=data.photos[:1]), out)
    before = (out / "some" / "a.png").stat().st_mtime_ns
    done = label(predictor, data, out)
    assert (done.written, done.kept) == (1, 1)
    assert (out / "some" / "a.png").stat().st_mtime_ns == before


def test_what_cannot_be_labelled_is_told(predictor: Predictor, tmp_path: Path):
    data = tagged(tmp_path, a=("cat", "zebra"), b=("zebra",), c=("cat",))
    (tmp_path / "c.png").write_bytes(b"no photo")
    done = label(predictor, data, tmp_path / "out")
    assert done.written == 1
    assert [fault.where for fault in done.faults] == ["zebra", "some/b", "some/c"]
    assert values(tmp_path / "out" / "some" / "a.png") == {0, 1}
    assert not (tmp_path / "out" / "some" / "c.png").exists()


def test_a_folder_of_other_masks_is_refused(predictor: Predictor, tmp_path: Path):
    (tmp_path / "classes.txt").write_text("background\ncow\n")
    with pytest.raises(DataError, match="names other classes"):
        label(predictor, tagged(tmp_path, a=("cat",)), tmp_path)


def test_photos_are_segmented_and_overlaid(predictor: Predictor, tmp_path: Path):
    photos = [save(tmp_path / "a.png", "background", "cat"), save(tmp_path / "b.jpg", "dog", "cat")]
    assert segment_files(predictor, [*photos, photos[0]], tmp_path / "out") == []
    names = ["a-overlay.png", "a.png", "b-overlay.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert values(tmp_path / "out" / "a.png") == {0, 1}
    overlay = np.array(Image.open(tmp_path / "out" / "a-overlay.png"))
    assert overlay.shape == (40, 80, 3)
    assert tuple(overlay[10, 10]) == COLOURS["background"]
    assert tuple(overlay[10, 70]) != COLOURS["cat"]


def test_tags_limit_all_photos(predictor: Predictor, tmp_path: Path):
    segment_files(predictor, [save(tmp_path / "a.png", "background", "cat", "dog")], tmp_path / "out", tags=["dog"])
    assert values(tmp_path / "out" / "a.png") == {0, 2}


def test_an_unreadable_photo_is_told_and_the_others_go_on(predictor: Predictor, tmp_path: Path):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no photo")
    told: list[int] = []
    photos = [broken, tmp_path / "absent.jpg", save(tmp_path / "b.png", "cat")]
    faults = segment_files(predictor, photos, tmp_path / "out", advance=told.append)
    assert [fault.where for fault in faults] == [str(broken), str(tmp_path / "absent.jpg")]
    assert "replace or remove it" in faults[0].why
    assert (tmp_path / "out" / "b.png").is_file()
    assert not (tmp_path / "out" / "a.png").exists()
    assert told == [1, 1, 1]


@pytest.mark.parametrize("names", [("x/a.png", "y/a.png"), ("a.jpg", "a.png"), ("a.png", "a-overlay.png")])
def test_no_two_photos_share_an_output(predictor: Predictor, tmp_path: Path, names: tuple[str, str]):
    photos = [save(tmp_path / name, "cat") for name in names]
    with pytest.raises(DataError, match="would be written for both"):
        segment_files(predictor, photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_input_is_replaced(predictor: Predictor, tmp_path: Path):
    photo = save(tmp_path / "a.png", "cat")
    before = photo.read_bytes()
    with pytest.raises(DataError, match="would replace an input"):
        segment_files(predictor, [photo], tmp_path)
    assert photo.read_bytes() == before


def test_an_unknown_tag_is_told_before_anything_is_written(predictor: Predictor, tmp_path: Path):
    with pytest.raises(DataError, match="it knows cat, dog"):
        segment_files(predictor, [save(tmp_path / "a.png", "cat")], tmp_path / "out", tags=["zebra"])
    assert not (tmp_path / "out").exists()
