"""Corrections: what they say, where they are read from, and what they do to the tags."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.corrections import Correction
from tagmask.errors import DataError
from tagmask.masks import VOID, Provenance, write_mask
from tests.training.datasets.test_check import printed
from training.datasets import load
from training.datasets.check import check
from training.datasets.photos import Photo

Paint = Callable[..., Path]

MASK = np.array([[0, 1, VOID], [2, 2, VOID]], dtype=np.uint8)
NAMES = ("background", "cat", "dog")


@pytest.fixture
def zoo(tmp_path: Path, paint: Paint) -> Path:
    """Photos cat/1, cat/2 and dog/1, 3 pixels wide and 2 high, whose masks are there for measuring."""
    for name in ("cat/1", "cat/2", "dog/1"):
        paint(tmp_path / "zoo" / f"{name}.png", size=(3, 2), seed=len(list((tmp_path).rglob("*.png"))))
        write_mask(tmp_path / "zoo" / "masks" / f"{name}.png", np.full((2, 3), NAMES.index(name[:3]), dtype=np.uint8))
    (tmp_path / "zoo" / "classes.txt").write_text("\n".join(NAMES))
    return tmp_path / "zoo"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mended"
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return folder


def write_correction(path: Path, mask: np.ndarray, complete: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Correction.of(mask, NAMES, complete).encode())


def corrected(zoo: Path, source: Path) -> dict[str, Photo]:
    return {photo.id: photo for photo in load(zoo, corrections=source).photos}


def whys(zoo: Path, source: Path) -> list[str]:
    return [fault.why for fault in load(zoo, corrections=source).faults]


def test_a_correction_gives_its_mask_back_in_the_labels_of_the_classes_that_are_learned():
    correction = Correction.of(MASK, NAMES)
    assert (correction.size, correction.shown) == ((2, 3), ("cat", "dog"))
    np.testing.assert_array_equal(correction.labels(("cat", "dog")), MASK)
    np.testing.assert_array_equal(correction.labels(("owl", "Cat")), [[0, 2, VOID], [VOID] * 3])


def test_masks_that_a_data_set_carries_are_no_corrections(zoo: Path):
    data = load(zoo)
    assert all(photo.mask for photo in data.photos)
    assert data.corrected == 0


def test_the_option_makes_them_corrections(zoo: Path):
    data = load(zoo, corrections=zoo)
    assert data.corrected == 3
    assert [set(photo.correction.labels(data.classes).flat) for photo in data.photos if photo.correction] == [
        {1}, {1}, {2},
    ]  # fmt: skip


def test_a_correction_belongs_to_the_photo_of_its_name(zoo: Path, source: Path):
    write_correction(source / "cat" / "2.png", MASK, ("dog",))
    photos = corrected(zoo, source)
    assert [name for name, photo in photos.items() if photo.correction] == ["cat/2"]
    assert photos["cat/2"].correction == Correction.of(MASK, NAMES, ("dog",))


def test_the_last_part_of_a_name_is_enough_where_no_other_photo_has_it(zoo: Path, source: Path):
    write_mask(source / "1.png", MASK)
    write_mask(source / "2.png", MASK)
    assert [name for name, photo in corrected(zoo, source).items() if photo.correction] == ["cat/2"]
    assert "1 correction of photos that are not read, such as 1; ignored" in whys(zoo, source)


def test_a_class_that_a_correction_shows_is_added_to_the_tags(zoo: Path, source: Path):
    write_mask(source / "cat" / "1.png", MASK)
    assert corrected(zoo, source)["cat/1"].tags == ("cat", "dog")
    assert "shows dog, which its photo was not tagged with; the tag was added" in whys(zoo, source)


@pytest.mark.parametrize("complete", [(), ("dog",)])
def test_a_tag_of_which_a_correction_leaves_no_pixel_is_a_conflict(zoo: Path, source: Path, complete: tuple[str, ...]):
    mask = np.zeros((2, 3), dtype=np.uint8)
    if complete:
        mask[0, 0] = VOID
    write_correction(source / "dog" / "1.png", mask, complete)
    assert corrected(zoo, source)["dog/1"].tags == ("dog",)
    assert "shows no dog, which its photo is tagged with; correct one of the two" in whys(zoo, source)


def test_a_class_that_no_photo_is_tagged_with_is_not_used(zoo: Path, source: Path):
    (source / "classes.txt").write_text("background\ncat\nowl")
    write_mask(source / "cat" / "1.png", MASK)
    assert load(zoo, corrections=source).classes == ("cat", "dog")
    assert "no photo is tagged owl; its pixels are not used" in whys(zoo, source)


@pytest.mark.parametrize(
    ("mask", "options", "why"),
    [
        (
            MASK,
            {"provenance": Provenance("abc", 0.9)},
            "not used: a model predicted it, and no one has saved it anew since",
        ),
        (MASK + 1, {}, "not used: value 3 has no name; valid are 0 to 2, and 255"),
        (np.full((2, 3), VOID, dtype=np.uint8), {}, "not used: it says nothing"),
    ],
)
def test_what_is_no_correction_is_told(zoo: Path, source: Path, mask: np.ndarray, options: dict, why: str):
    write_mask(source / "cat" / "1.png", np.where(mask == 0, VOID, mask).astype(np.uint8), **options)
    data = load(zoo, corrections=source)
    assert data.corrected == 0
    fault = next(fault for fault in data.faults if fault.why.startswith(why))
    assert fault.where == "mended/cat/1.png"


@pytest.mark.parametrize("names", [None, "background\ncat"])
def test_a_source_without_corrections_is_refused(zoo: Path, tmp_path: Path, names: str | None):
    (tmp_path / "empty").mkdir()
    if names:
        (tmp_path / "empty" / "classes.txt").write_text(names)
    with pytest.raises(DataError, match=r"empty: no corrections; name a folder of PNGs"):
        load(zoo, corrections=tmp_path / "empty")


def test_the_digest_covers_corrections(zoo: Path, source: Path):
    write_mask(source / "cat" / "1.png", np.where(MASK == 2, 1, MASK).astype(np.uint8))
    plain, data = load(zoo), load(zoo, corrections=source)
    assert plain.classes == data.classes
    assert plain.digest() != data.digest()
    without = replace(data, photos=tuple(replace(photo, correction=None) for photo in data.photos))
    assert without.digest() == plain.digest()


def test_a_check_counts_corrections_by_class_and_drops_those_of_another_size(zoo: Path, source: Path):
    write_mask(source / "cat" / "1.png", MASK)
    write_mask(source / "cat" / "2.png", MASK[:, :2])
    report = check(load(zoo, corrections=source), workers=1)
    assert report.corrected == {"cat": 1, "dog": 1}
    assert [photo.correction is None for photo in report.data.photos] == [False, True, True]
    assert "corrections     1 photo: cat 1, dog 1" in printed(report)
    fault = report.data.faults[-1]
    assert fault.where == "cat/2.png"
    assert fault.why.startswith("its correction is ignored, as it is 2x2 pixels large and the photo 3x2")
