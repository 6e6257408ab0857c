"""File names in composed and in decomposed Unicode, which a Mac writes, are one name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.datasets import layouts
from training.datasets import Format, load

Paint = Callable[..., Path]

NFC, NFD = "v\xe9lo", "ve\u0301lo"
FORMATS: tuple[Format, ...] = ("voc", "table", "datumaro", "coco", "label-studio", "cvat")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("listed", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_a_listed_photo_is_found(tmp_path: Path, paint: Paint, form: Format, listed: str, stored: str) -> None:
    layouts.write(tmp_path, form, {f"{listed}.png": ("cat",), "dog.png": ("dog",)}, paint)
    (photo,) = (path for path in tmp_path.rglob("*.png") if path.stem == listed)
    photo.rename(photo.with_stem(stored))
    data = load(tmp_path)
    assert data.faults == ()
    assert [(photo.id.rpartition("/")[2], photo.path.stem) for photo in data.photos] == [("dog", "dog"), (NFC, stored)]


@pytest.mark.parametrize(("listed", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_ids_of_a_split_and_masks_are_found(
    tmp_path: Path, paint: Paint, paint_mask: Paint, listed: str, stored: str
) -> None:
    paint(tmp_path / stored / f"{stored}.png")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text(f"{listed}/{stored}\n")
    (tmp_path / "classes.txt").write_text(f"background\n{listed}\n")
    mask = paint_mask(tmp_path / "masks" / listed / f"{listed}.png")
    data = load(tmp_path, split="val", classes=[listed])
    assert data.faults == ()
    assert [(photo.id, photo.mask) for photo in data.photos] == [(f"{NFC}/{NFC}", mask)]
    assert data.classes == data.mask_classes[1:] == (NFC,)
