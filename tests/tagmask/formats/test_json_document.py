from base64 import b64decode

import numpy as np
import pytest

from tagmask.formats import json_document, png
from tagmask.segmentation import Pixels
from tests.tagmask.formats.segmentations import CLASSES, IOUS, MASKS, MODEL, PALETTE, parse, segmentation


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_it_tells_what_numpy_counts(mask: Pixels) -> None:
    original = segmentation(mask)
    document = parse(json_document.encode(original))
    height, width = mask.shape
    assert document["size"] == {"width": width, "height": height}
    assert document["model"] == {"version": MODEL.version}
    assert document["labels"] == list(CLASSES)
    assert [each["label"] for each in document["classes"]] == sorted({1, 3, *np.unique(mask).tolist()})
    ious = [each["expected_iou"] for each in document["classes"] if each["label"]]
    assert document["expected_iou"] == pytest.approx(np.mean(ious), abs=1e-4)
    assert document["low_confidence"] == (document["expected_iou"] < 0.6)
    for each in document["classes"]:
        where = mask == each["label"]
        assert each["painted"] == where.any()
        if not each["painted"]:
            assert (each["name"], tuple(each["colour"])) == (CLASSES[each["label"]], PALETTE[each["label"]])
            assert [each[name] for name in ("pixels", "share", "confidence", "expected_iou")] == [0, 0, 0, 0]
            assert each["box"] == [0, 0, 0, 0]
            continue
        assert each["expected_iou"] == round(IOUS[each["label"]], 4)
        rows, columns = np.nonzero(where)
        assert (each["name"], tuple(each["colour"])) == (CLASSES[each["label"]], PALETTE[each["label"]])
        assert each["pixels"] == rows.size
        assert each["share"] == pytest.approx(rows.size / mask.size, abs=1e-6)
        assert each["confidence"] == pytest.approx(original.confidence[where].mean() / 255, abs=1e-4)
        x, y, box_width, box_height = each["box"]
        assert (x, y, x + box_width, y + box_height) == (
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        )
    assert document["mask"]["media_type"] == "image/png"
    assert b64decode(document["mask"]["base64"]) == png.encode(original)
