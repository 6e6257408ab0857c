from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask import masks
from tagmask.errors import DataError
from tagmask.masks import VOID, read_mask


def test_the_palette_is_that_of_pascal_voc():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128)}
    assert {index: masks.PALETTE[index] for index in known} == known
    assert masks.PALETTE[20] == (0, 64, 128)
    assert masks.PALETTE[VOID] == (224, 224, 192)
    assert len(set(masks.PALETTE)) == 256


def test_a_mask_comes_back_and_shows_its_colours(tmp_path: Path):
    mask = np.array([[0, 1, 2], [15, 254, VOID]], dtype=np.uint8)
    masks.write_mask(tmp_path / "m.png", mask)
    assert (read_mask(tmp_path / "m.png") == mask).all()
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        shown = np.array(image.convert("RGB"))
    assert shown[0, 1].tolist() == [128, 0, 0]
    assert shown[1, 2].tolist() == [224, 224, 192]


def test_masks_are_palette_or_grey(tmp_path: Path) -> None:
    values = np.array([[0, 3], [255, 1]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    palette = Image.fromarray(values)
    palette.putpalette([0] * 768)
    palette.save(tmp_path / "palette.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "rgb.png")
    assert read_mask(tmp_path / "grey.png").tolist() == read_mask(tmp_path / "palette.png").tolist() == values.tolist()
    with pytest.raises(DataError, match=r"rgb\.png: a mask must be"):
        read_mask(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"absent\.png"):
        read_mask(tmp_path / "absent.png")
