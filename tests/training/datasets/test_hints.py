"""Hints: where they are read from, and which of them are used."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.corrections import Correction
from tagmask.errors import DataError
from tagmask.masks import VOID, Provenance, write_mask
from tests.training.datasets.test_areas import write_coco
from tests.training.datasets.test_check import printed
from training.datasets import load
from training.datasets.check import check
from training.datasets.photos import Photo
from training.datasets.writing import write

Paint = Callable[..., Path]

MASK = np.array([[0, 1, VOID], [2, 2, VOID]], dtype=np.uint8)


@pytest.fixture
def zoo(tmp_path: Path, paint: Paint) -> Path:
    """Photos cat/1, cat/2 and dog/1, 3 pixels wide and 2 high."""
    for seed, name in enumerate(("cat/1", "cat/2", "dog/1")):
        paint(tmp_path / "zoo" / f"{name}.png", size=(3, 2), seed=seed)
    return tmp_path / "zoo"


def masks(folder: Path, names: str, *photos: str, mask: np.ndarray = MASK, **texts: tuple[str, float]) -> Path:
    """A folder of PNGs for the photos, whose values have the `names`, separated by blanks."""
    for photo in photos:
        (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        write_mask(folder / f"{photo}.png", mask, **texts)
    (folder / "classes.txt").write_text("\n".join(names.split()))
    return folder


def hints(zoo: Path, source: Path, **options: Path) -> dict[str, Correction]:
    return {photo.id: photo.hint for photo in load(zoo, hints=source, **options).photos if photo.hint}


def whys(zoo: Path, source: Path) -> list[str]:
    return [fault.why for fault in load(zoo, hints=source).faults]


def test_a_hint_belongs_to_the_photo_of_its_name_and_leaves_its_tags_alone(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background cat dog", "cat/1")
    assert hints(zoo, source) == {"cat/1": Correction.of(MASK, ("background", "cat", "dog"))}
    data = load(zoo, hints=source)
    assert [(photo.tags, photo.correction) for photo in data.photos] == [
        (("cat",), None), (("cat",), None), (("dog",), None),
    ]  # fmt: skip
    assert (data.hinted, data.faults) == (1, ())


def test_masks_that_a_model_predicted_are_hints(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background cat dog", "cat/1", provenance=Provenance("abc", 0.9))
    assert list(hints(zoo, source)) == ["cat/1"]
    assert load(zoo, corrections=source).corrected == 0


def test_so_is_what_cvat_has_from_a_model(zoo: Path, tmp_path: Path):
    masked = masks(tmp_path / "made", "background cat dog", "cat/1").parent
    data = load(zoo)
    photos = tuple(
        replace(photo, mask=masked / "made" / "cat" / "1.png") for photo in data.photos if photo.id == "cat/1"
    )
    names = ("background", "cat", "dog")
    write(replace(data, photos=photos, mask_classes=names), tmp_path / "cvat", "cvat", photos=False)
    assert hints(zoo, tmp_path / "cvat")["cat/1"].shown == ("cat", "dog")
    assert load(zoo, corrections=tmp_path / "cvat").corrected == 0


def test_outlines_are_hints_and_foreground_is_what_stands_out_whatever_its_class(zoo: Path, tmp_path: Path):
    path = write_coco(tmp_path / "made.json", [[0, 0, 1, 0, 1, 1, 0, 1]], width=3, height=2, file_name="dog/1.png")
    assert hints(zoo, path) == {}
    assert whys(zoo, path) == ["1 hint for other classes than the photo's tags; not used"]
    path.write_text(path.read_text().replace('"Cat"', '"Foreground"'))
    assert hints(zoo, path)["dog/1"].shown == ("Foreground",)
    assert whys(zoo, path) == []


def test_a_class_that_no_photo_is_tagged_with_is_told_once_with_the_remedy(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background owl cat", "cat/1", "dog/1")
    assert list(hints(zoo, source)) == ["cat/1"]
    assert whys(zoo, source) == [
        "no photo is tagged owl; not used, call it 'foreground' if it is of any class",
        "1 hint for other classes than the photo's tags; not used",
    ]


def test_a_photo_with_a_correction_has_no_hint(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background cat dog", "cat/1", "cat/2")
    mended = masks(tmp_path / "mended", "background cat dog", "cat/1")
    assert list(hints(zoo, source, corrections=mended)) == ["cat/2"]
    assert load(zoo, hints=source, corrections=mended).corrected == 1


def test_a_photo_that_shows_nothing_has_no_hint(zoo: Path, tmp_path: Path, paint: Paint):
    paint(zoo / "background" / "1.png", size=(3, 2), seed=9)
    source = masks(tmp_path / "made", "background foreground", "background/1", "cat/1", mask=np.minimum(MASK, 1))
    assert list(hints(zoo, source)) == ["cat/1"]


def test_a_hint_without_a_class_is_told_where_its_photo_shows_something(zoo: Path, tmp_path: Path, paint: Paint):
    paint(zoo / "background" / "1.png", size=(3, 2), seed=9)
    source = masks(tmp_path / "made", "background foreground", "background/1", "cat/1", mask=np.zeros_like(MASK))
    assert hints(zoo, source) == {}
    assert whys(zoo, source) == ["1 hint without a class; not used"]


def test_what_cannot_be_read_is_told(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background cat", "cat/1", "owl/7")
    assert hints(zoo, source) == {}
    assert whys(zoo, source) == [
        "not used: value 2 has no name; valid are 0 to 1, and 255; correct or remove it",
        "1 hint of photos that are not read, such as owl/7; ignored",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no hints; name a folder of PNGs"):
        load(zoo, hints=tmp_path / "empty")


def test_the_digest_covers_hints_and_tells_them_from_corrections(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background cat", "cat/1", mask=np.minimum(MASK, 1))
    data = load(zoo, hints=source)

    def without(photo: Photo) -> Photo:
        return replace(photo, hint=None)

    digests = {load(zoo).digest(), data.digest(), load(zoo, corrections=source).digest()}
    assert len(digests) == 3
    assert replace(data, photos=tuple(map(without, data.photos))).digest() == load(zoo).digest()


def test_a_check_counts_hints_by_class_and_drops_those_of_another_size(zoo: Path, tmp_path: Path):
    masks(tmp_path / "made", "background cat dog", "cat/1")
    source = masks(tmp_path / "made", "background cat dog", "cat/2", mask=MASK[:, :2])
    report = check(load(zoo, hints=source), workers=1)
    assert [photo.hint is None for photo in report.data.photos] == [False, True, True]
    assert report.hinted == {"cat": 1, "dog": 1}
    assert "hints           1 photo: cat 1, dog 1\n" in printed(report)
    fault = report.data.faults[-1]
    assert fault.where == "cat/2.png"
    assert fault.why.startswith("its hint is ignored, as it is 2x2 pixels large and the photo 3x2")


def test_a_check_counts_foreground_only_where_hints_show_it(zoo: Path, tmp_path: Path):
    source = masks(tmp_path / "made", "background foreground", "dog/1", mask=np.minimum(MASK, 1))
    assert check(load(zoo, hints=source), workers=1).hinted == {"cat": 0, "dog": 0, "foreground": 1}
