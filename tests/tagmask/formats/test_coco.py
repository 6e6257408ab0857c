from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tagmask.formats import coco
from tagmask.formats.regions import plane, run_lengths
from tagmask.segmentation import Pixels
from tests.tagmask.formats.segmentations import CLASSES, MASKS, MODEL, parse, segmentation


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_pycocotools_loads_it_and_gets_the_mask_back(mask: Pixels, tmp_path: Path) -> None:
    original = segmentation(mask)
    (tmp_path / "answer.json").write_bytes(coco.encode(original))
    loaded = COCO(tmp_path / "answer.json")
    (image,) = loaded.loadImgs(loaded.getImgIds())
    assert (image["height"], image["width"]) == mask.shape
    rebuilt = np.zeros_like(mask)
    for annotation in loaded.loadAnns(loaded.getAnnIds(imgIds=[1])):
        label = annotation["category_id"]
        where = loaded.annToMask(annotation).astype(bool)
        rebuilt[where] = label
        rows, columns = np.nonzero(mask == label)
        assert annotation["area"] == rows.size
        assert annotation["bbox"] == [
            columns.min(),
            rows.min(),
            columns.max() - columns.min() + 1,
            rows.max() - rows.min() + 1,
        ]
        assert annotation["score"] == pytest.approx(original.confidence[mask == label].mean() / 255, abs=1e-4)
    np.testing.assert_array_equal(rebuilt, mask)


def test_categories_are_the_classes_that_were_considered() -> None:
    document = parse(coco.encode(segmentation(MASKS["one pixel"])))
    assert document["info"]["version"] == MODEL.version
    assert {each["id"]: each["name"] for each in document["categories"]} == dict(enumerate(CLASSES[1:], start=1))
    assert [each["category_id"] for each in document["annotations"]] == [2]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_run_lengths_give_the_pixels_back(mask: Pixels) -> None:
    pixels = plane(mask, 1)
    counts = coco.coco_rle(pixels)["counts"]
    np.testing.assert_array_equal(coco.coco_pixels(counts, pixels.shape), pixels)
    np.testing.assert_array_equal(coco.coco_pixels(run_lengths(pixels.T.copy()).tolist(), pixels.shape), pixels)


@pytest.mark.parametrize(
    "counts",
    [
        "",
        "1",
        [5],
        [7],
        [-1, 7],
        [6, 2**62, -(2**62)],
        [2**63 - 1, 2**63 - 1, 8],
        [2**64],
        [None],
        "~",
        "P" * 40,
        "\u0100",
        "ooooooooooo?" * 40,
    ],
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts: str | list[int]) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        coco.coco_pixels(counts, (2, 3))
