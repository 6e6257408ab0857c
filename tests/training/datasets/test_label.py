from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError
from tagmask.masks import PALETTE, Provenance, read_mask, read_provenance, write_mask
from tagmask.segmenter import Segmenter
from tests.training.colour_bundle import COLOURS, write_colour_bundle
from training.datasets.label import label
from training.datasets.photos import Photo, TaggedPhotos


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")
    return Segmenter.load(path, device="cpu", threads=1)


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


def test_a_data_set_is_labelled_within_its_tags(segmenter: Segmenter, tmp_path: Path):
    out, advances = tmp_path / "out", list[int]()
    done = label(segmenter, tagged(tmp_path, a=("cat",), b=("dog",), c=("cat", "dog")), out, advance=advances.append)
    assert (done.written, done.kept, done.faults, advances) == (3, 0, (), [1, 1, 1])
    assert [values(out / "some" / f"{name}.png") for name in "abc"] == [{0, 1}, {0, 2}, {0, 1, 2}]
    version, score, _ = read_provenance(out / "some" / "a.png") or ("", 0.0, "")
    assert (version, round(score, 1)) == (segmenter.version, 1.0)
    assert (out / "classes.txt").read_text().split() == ["background", "cat", "dog"]
    with Image.open(out / "some" / "a.png") as mask:
        assert mask.mode == "P"
        assert mask.convert("RGB").getpixel((60, 10)) == PALETTE[1]


def test_masks_of_another_model_are_replaced_and_those_of_people_kept(segmenter: Segmenter, tmp_path: Path):
    data, out = tagged(tmp_path, a=("cat",), b=("cat",), c=("cat",)), tmp_path / "out"
    label(segmenter, data, out)
    write_mask(out / "some" / "b.png", np.zeros((40, 120), np.uint8), Provenance("another", 0.5))
    write_mask(out / "some" / "c.png", np.zeros((40, 120), np.uint8))
    done = label(segmenter, data, out)
    assert (done.written, done.kept, len(done.data.photos)) == (1, 2, 3)
    assert [values(out / "some" / f"{name}.png") for name in "abc"] == [{0, 1}, {0, 1}, {0}]
    assert read_provenance(out / "some" / "b.png") == read_provenance(out / "some" / "a.png")


def test_a_photo_that_shows_nothing_is_all_background(segmenter: Segmenter, tmp_path: Path):
    data, out = tagged(tmp_path, a=("cat",), b=()), tmp_path / "out"
    done = label(segmenter, data, out)
    assert (done.written, done.faults, len(done.data.photos)) == (2, (), 2)
    assert values(out / "some" / "b.png") == {0}
    assert label(segmenter, data, out).kept == 2


def test_labelling_goes_on_where_it_stopped(segmenter: Segmenter, tmp_path: Path):
    data, out = tagged(tmp_path, a=("cat",), b=("dog",)), tmp_path / "out"
    label(segmenter, replace(data, photos=data.photos[:1]), out)
    before = (out / "some" / "a.png").stat().st_mtime_ns
    done = label(segmenter, data, out)
    assert (done.written, done.kept) == (1, 1)
    assert (out / "some" / "a.png").stat().st_mtime_ns == before


def test_a_photo_is_labelled_again_for_other_tags_and_with_another_refinement(segmenter: Segmenter, tmp_path: Path):
    out = tmp_path / "out"
    label(segmenter, tagged(tmp_path, a=("cat",), b=("dog",)), out)
    data = tagged(tmp_path, a=("dog",), b=("dog",))
    done = label(segmenter, replace(data, classes=("cat", "dog")), out)
    assert (done.written, done.kept) == (1, 1)
    assert [values(out / "some" / f"{name}.png") for name in "ab"] == [{0, 2}, {0, 2}]
    assert label(segmenter, data, out, refine="smooth").written == 2


def test_what_cannot_be_labelled_is_told(segmenter: Segmenter, tmp_path: Path):
    data = tagged(tmp_path, a=("cat", "zebra"), b=("zebra",), c=("cat",))
    (tmp_path / "c.png").write_bytes(b"no photo")
    done = label(segmenter, data, tmp_path / "out")
    assert done.written == 1
    assert [fault.where for fault in done.faults] == ["zebra", "some/b", "some/c"]
    assert values(tmp_path / "out" / "some" / "a.png") == {0, 1}
    assert not (tmp_path / "out" / "some" / "c.png").exists()


def test_an_error_tells_that_nothing_could_be_labelled(segmenter: Segmenter, tmp_path: Path):
    with pytest.raises(DataError, match="no photo could be labelled; first fault: zebra: the model does not know"):
        label(segmenter, tagged(tmp_path, a=("zebra",)), tmp_path / "out")


@pytest.mark.parametrize("name", ["cat/1.jpg", "1.PNG"])
def test_a_folder_of_photos_is_refused(segmenter: Segmenter, tmp_path: Path, name: str):
    (tmp_path / "zoo" / name).parent.mkdir(parents=True)
    (tmp_path / "zoo" / name).touch()
    with pytest.raises(DataError, match=f"{name}: is a photo, not a mask; choose another or an empty folder"):
        label(segmenter, tagged(tmp_path, a=("cat",)), tmp_path / "zoo")
    assert not (tmp_path / "zoo/classes.txt").exists()


def test_a_folder_of_other_masks_is_refused(segmenter: Segmenter, tmp_path: Path):
    (tmp_path / "classes.txt").write_text("background\ncow\n")
    with pytest.raises(DataError, match="names other classes"):
        label(segmenter, tagged(tmp_path, a=("cat",)), tmp_path)
